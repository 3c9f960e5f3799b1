//! A bare TCP connection.

use tokio::net::{TcpListener, TcpStream};

use super::{Case, Outcome, echo, end, over_bytes, ready};

pub(super) async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it listens");
    let serving = async {
        let (stream, _) = listener.accept().await.expect("a client");
        stream.set_nodelay(true).expect("an option");
        echo(stream).await;
    };
    ready(&address.to_string());
    tokio::join!(serving, end());
}

pub(super) async fn drive(address: &str, case: Case) -> Outcome {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("an option");
    over_bytes(&mut stream, case).await
}

//! Users who know an instance of the workspace: what they ask under its terms, and what they must
//! be told.

use cpe_mesh::{Command, Failure, Reply};
use cpe_space::{Bound, Terms};

use crate::check::Violation;
use crate::work::Open;

/// The instance they all know.
const TERMS: Terms = Terms {
    instance: 1,
    after: None,
};

/// The same request under the terms of the instance, of those that have such a form.
pub(crate) fn under_terms(command: Command) -> Command {
    let (workspace, act, deadline) = match command {
        Command::Out {
            workspace,
            tuple,
            deadline,
            ..
        } => (workspace, Bound::Put { tuple }, deadline),
        Command::Take {
            workspace,
            ref template,
            wait,
            deadline,
        } if template.key().is_some() => {
            let act = take(template.key().cloned(), wait, false);
            (workspace, act, deadline)
        }
        Command::Read {
            workspace,
            template,
            wait,
            deadline,
            ..
        } => {
            let act = take(template.key().cloned(), wait, true);
            (workspace, act, deadline)
        }
        Command::Declare {
            workspace,
            variable,
            mode,
            deadline,
        } => {
            let mode = Some(mode);
            (workspace, Bound::Declare { variable, mode }, deadline)
        }
        other => return other,
    };
    Command::Bound {
        workspace,
        terms: TERMS,
        act,
        deadline,
    }
}

fn take(variable: Option<cpe_tuple::Value>, wait: bool, leave: bool) -> Bound {
    Bound::Take {
        variable: variable.unwrap_or_default(),
        wait,
        leave,
    }
}

/// What an answer means in terms of an ordinary one; whether a variable may be `absent`.
pub(crate) fn told(open: Open, reply: Reply, absent: bool) -> Result<Reply, Violation> {
    match (open, reply) {
        (Open::Store(_), Reply::Done) => Ok(Reply::Stored { index: 0 }),
        // They ask only for what they have declared, and nothing is deleted.
        (_, Reply::Failed(Failure::Absent)) if !absent => {
            let why = "a variable that was declared is absent".to_owned();
            Err(Violation::Malformed(why))
        }
        (_, reply) => Ok(reply),
    }
}

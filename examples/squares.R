# Takes numbers from the workspace `squares` and stores their squares, until told to stop. Whichever
# of this and squares.py comes first makes the workspace.
# Usage: Rscript squares.R [HOST [PORT]]
#
# Speaks the protocol itself, as the package `nws` does, so that R alone is enough. With the package:
#   ws <- netWorkSpace("squares", host, port, useUse = TRUE)
#   nwsFetch(ws, "task"); nwsStore(ws, "result", "3 9")

arguments <- commandArgs(trailingOnly = TRUE)
host <- if (length(arguments) > 0) arguments[1] else "localhost"
port <- if (length(arguments) > 1) as.integer(arguments[2]) else 8765L

# A fetch may wait for as long as it likes.
YEAR <- 365 * 24 * 3600
server <- socketConnection(host, port, open = "r+b", blocking = TRUE, timeout = YEAR)

send <- function(bytes) writeBin(bytes, server)

receive <- function(count) {
  bytes <- raw(0)
  while (length(bytes) < count) {
    more <- readBin(server, "raw", count - length(bytes))
    if (length(more) == 0) stop("the node has closed the connection")
    bytes <- c(bytes, more)
  }
  rawToChar(bytes)
}

# Four digits of a count; then each argument, after twenty digits of its length.
request <- function(...) {
  arguments <- lapply(list(...), function(text) charToRaw(enc2utf8(text)))
  framed <- lapply(arguments, function(bytes) c(charToRaw(sprintf("%020d", length(bytes))), bytes))
  send(c(charToRaw(sprintf("%04d", length(arguments))), unlist(framed)))
}

demand <- function(what) if (receive(4) != "0000") stop(what, " was refused")

use <- function(workspace) {
  request("use ws", workspace, "", "no")
  demand("use ws")
}

store <- function(workspace, variable, text) {
  # Descriptor 1: a string, for every language.
  request("store", workspace, variable, sprintf("%020d", 1L), text)
  demand("store")
}

# The value, after its descriptor, the variable's id, an index and its length.
fetch <- function(workspace, variable) {
  request("fetch", workspace, variable)
  demand("fetch")
  head <- receive(80)
  receive(as.integer(substr(head, 61, 80)))
}

send(charToRaw("1112"))
invisible(receive(4))
use("squares")
repeat {
  task <- fetch("squares", "task")
  if (task == "stop") {
    # Who waits for it ends next, and the workspace with it.
    store("squares", "bye", "")
    break
  }
  n <- as.numeric(task)
  store("squares", "result", paste(n, n * n))
}
close(server)

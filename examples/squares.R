# Takes numbers from the workspace `squares` and stores their squares, until told to stop.
# Usage: Rscript squares.R [HOST [PORT]]

library(nws)

arguments <- commandArgs(trailingOnly = TRUE)
host <- if (length(arguments) > 0) arguments[1] else "localhost"
port <- if (length(arguments) > 1) as.integer(arguments[2]) else 8765

ws <- netWorkSpace("squares", host, port, useUse = TRUE)
repeat {
  task <- nwsFetch(ws, "task")
  if (task == "stop") {
    # For the next one.
    nwsStore(ws, "task", task)
    break
  }
  n <- as.numeric(task)
  nwsStore(ws, "result", paste(n, n * n))
}

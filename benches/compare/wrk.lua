-- Prints what wrk counted as one line of numbers; without a request or response
-- function it costs the load nothing.
function done(summary, latency)
  io.write(string.format("counted %d %d %d %d %d %d %d %d\n",
    summary.requests, summary.duration, latency:percentile(99),
    summary.errors.connect, summary.errors.read, summary.errors.write,
    summary.errors.status, summary.errors.timeout))
end

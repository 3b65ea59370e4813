-- load.lua: wrk's script: requests from a file (one a line: METHOD, path, body, header lines as name=value, separated by tabs), in turn; prints
-- what was answered and how long it took as one line of JSON.
local requests = {}

function init(args)
    for line in io.lines(args[1]) do
        local method, path, body, headers = line:match("^(%S+)\t(%S+)\t([^\t]*)\t(.*)$")
        local table_of = {}
        for name, value in headers:gmatch("([^=\t]+)=([^\t]+)") do table_of[name] = value end
        requests[#requests + 1] = wrk.format(method, path, table_of, body ~= "" and body or nil)
    end
    position = math.random(#requests)
end

function request()
    position = position % #requests + 1
    return requests[position]
end

function done(summary, latency)
    io.write(string.format('{"requests":%d,"seconds":%.3f,"p50":%.3f,"p99":%.3f,"errors":%d,"refused":%d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
        summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout, summary.errors.status))
end

# Writes docs/metrics.md from services/lib/metrics.def:  awk -f tools/metrics_doc.awk services/lib/metrics.def
# Works in mawk. A declaration that does not keep to one line of the expected form, or to the order, ends with 1.

function fail(message) {
    print FILENAME ":" FNR ": " message > "/dev/stderr"
    failed = 1
    exit 1
}

# The labels in the answer: those of the scope and those told.
function labels_of(scope, told,    all) {
    all = scope == "SERVICE" ? "process" : scope == "REPLICA" ? "process,replica" : ""
    if (told != "") all = all (all != "" ? "," : "") told
    gsub(/,/, "`, `", all)
    return all != "" ? "`" all "`" : ""
}

BEGIN {
    print "# Metrics"
    print ""
    print "What `GET /metrics` answers, generated from `services/lib/metrics.def` by `make docs`. Times are in seconds, sizes in"
    print "bytes; histograms have the buckets 0.0005, 0.001, 0.0025, … 10 s. How a value is made of what all processes tell:"
    print "*sum* of all, those that ended included (a gauge: of those that live); *by service*, the same for the replicas of each;"
    print "*by replica*, each living process's own; *holder*, told by the one replica that holds the task."
    print ""
    print "| metric | type | labels | of | meaning |"
    print "| --- | --- | --- | --- | --- |"
    words["TOTAL"] = "sum"; words["SERVICE"] = "by service"; words["REPLICA"] = "by replica"; words["HOLDER"] = "holder"
}

/^METRIC\(/ {
    # METRIC(TYPE, name, SCOPE, "labels", "help")
    if (split($0, quoted, "\"") != 5 || quoted[5] != ")") fail("not a declaration on one line")
    if (split(quoted[1], before, /[(,] */) != 5) fail("not a declaration on one line")
    name = before[3]
    if (!(before[4] in words)) fail("no such scope")
    if (name <= last) fail("not in order")
    if ((before[2] == "COUNTER") != (name ~ /_total$/)) fail("counters end in _total, others do not")
    if (before[2] == "HISTOGRAM" && name !~ /_seconds$/) fail("histograms are of seconds")
    last = name
    print "| `" name "` | " tolower(before[2]) " | " labels_of(before[4], quoted[2]) " | " words[before[4]] " | " quoted[4] " |"
}

END { exit failed }

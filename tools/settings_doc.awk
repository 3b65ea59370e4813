# Writes the settings of services/lib/config.def into a document, between its lines `settings: …` and `/settings`.
#
#   awk -f tools/settings_doc.awk services/lib/config.def README.md > README.md.new
#
# Where the marker is an HTML comment, a Markdown table comes out; where it is a shell comment, lines for a .env file.
# Works in mawk. A declaration that does not keep to one line of the expected form, or a missing marker, ends with 1.

function fail(message) {
    print FILENAME ":" FNR ": " message > "/dev/stderr"
    failed = 1
    exit 1
}

# "DATABASE | IMPORT" in words.
function readers(expression,    text) {
    text = tolower(expression)
    gsub(/all & ~import/, "all", text)
    gsub(/database/, "all with a database", text)
        gsub(/starter/, "`./bore`", text)
    gsub(/ *\| */, ", ", text)
    return text
}

function print_table(    i) {
    print "| setting | default | meaning | read by |"
    print "| --- | --- | --- | --- |"
    for (i = 1; i <= count; i++) {
        if (heading[i] != "") print "| *" heading[i] "* | | | |"
        print "| `" name[i] "` | " (preset[i] == "" ? "" : "`" preset[i] "`") " | " help[i] " | " readers(process[i]) " |"
    }
}

function print_env(    i) {
    for (i = 1; i <= count; i++) {
        if (heading[i] != "") print (i > 1 ? "\n" : "") "# --- " heading[i] " ---"
        print "# " help[i]
        print "#" name[i] "=" preset[i]
    }
}

# --- the declarations ---
NR == FNR && /^\/\* --- .* --- \*\/$/ {
    coming = $0
    gsub(/^\/\* --- | --- \*\/$/, "", coming)
}
NR == FNR && /^CONFIG\(/ {
    # CONFIG(KIND, NAME, field, "default", minimum, maximum, PROCESSES, "help")
    if (split($0, quoted, "\"") != 5 || quoted[5] != ")") fail("not a declaration on one line")
    if (split(quoted[1], before, ", ") != 4 || split(quoted[3], after, ", ") != 5) fail("not a declaration on one line")
    count++
    name[count] = before[2]
    preset[count] = quoted[2]
    process[count] = after[4]
    help[count] = quoted[4]
    heading[count] = coming
    coming = ""
}
NR == FNR { next }

# --- the document ---
/^(<!--|#) settings: / {
    marked++
    skipping = 1
    print
    if (/^</) print_table()
    else print_env()
    next
}
/^(<!--|#) \/settings/ { skipping = 0 }
!skipping { print }

END {
    if (failed) exit 1
    if (marked != 1 || skipping) {
        print FILENAME ": one pair of lines `settings: …` and `/settings` is needed" > "/dev/stderr"
        exit 1
    }
}

/* tunnel_script.c: see tunnel_script.h. */
#include "tests/unit/tunnel_script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/sql_client.h"

enum { TOKENS_MAX = 8, REPORTS_MAX = 16, STEP_MS = 10 };

struct report {
    const char *kind;
    char port[8];
    char name[40];
    char sequence[8];
};

static struct {
    struct db *db;
    long long now;
    const char *instance; /* its user has the same id */
    char tokens[TOKENS_MAX][80];
    int token_count;
    char starts[TOKENS_MAX][40];
    int start_count;
    struct report reports[REPORTS_MAX];
    int report_count;
    bool in_batch;
} play;

void tunnel_clock_install(struct db *connection) {
    sql_run(connection, "CREATE OR REPLACE FUNCTION bore.clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$"
                        " SELECT timestamptz '2030-01-01' + current_setting('test.clock')::bigint * interval '1 ms' $$;"
                        "SET test.clock = 0");
}

void tunnel_clock_set(struct db *connection, long long milliseconds) {
    char text[32];
    snprintf(text, sizeof text, "%lld", milliseconds);
    sql_ask(connection, "SELECT set_config('test.clock', $1, false)", text);
}

static void pass(long long milliseconds) {
    play.now += milliseconds;
    tunnel_clock_set(play.db, play.now);
}

/* --- reports ------------------------------------------------------------------------------------------------------ */

/* One row for each waiting report, as SQL text: parameters would say nothing more here. */
static void send_reports(void) {
    char rows[REPORTS_MAX * 200] = "";
    for (int i = 0; i < play.report_count; i++) {
        const struct report *report = &play.reports[i];
        bool is_start = strcmp(report->kind, "start") == 0;
        size_t size = strlen(rows);
        snprintf(rows + size, sizeof rows - size,
            "%sROW (%d, '%s', '%s', %s, NULL, %s%s%s, %s, %s, NULL, '%s', %s, 80, NULL, NULL, 1000)"
            "::bore.batch_report",
            i ? ", " : "", i + 1, report->kind, play.instance, is_start || !report->port[0] ? "NULL" : report->port,
            report->name[0] ? "'" : "", report->name[0] ? report->name : "NULL", report->name[0] ? "'" : "",
            is_start ? "'server'" : "NULL", report->sequence[0] ? report->sequence : "NULL", play.instance,
            is_start ? report->port : "NULL");
    }
    char sql[sizeof rows + 400];
    snprintf(sql, sizeof sql,
        "SELECT concat_ws(' ', string_agg(error, ' '), string_agg(session_id, ' ' ORDER BY ord)) "
        "FROM bore.tunnel_reports(ARRAY [%s], 'host', interval '1 minute', interval '30 minutes')",
        rows);
    const char *answer = sql_ask(play.db, sql);
    if (strncmp(answer, "use_", 4) == 0) {
        snprintf(play.starts[play.start_count++], sizeof play.starts[0], "%s", answer);
    } else if (answer[0]) {
        fail_msg("a report was refused: %s", answer);
    }
    play.report_count = 0;
}

/* "a:5000", "#7:5000", "5000", "a", "#7" or "". */
static void add_report(const char *kind, const char *what, bool is_port) {
    assert_true(play.report_count < REPORTS_MAX);
    struct report *report = &play.reports[play.report_count++];
    *report = (struct report){ .kind = kind };
    const char *colon = strchr(what, ':');
    size_t named = colon ? (size_t)(colon - what) : is_port ? 0 : strlen(what);
    if (named && what[0] == '#') {
        snprintf(report->sequence, sizeof report->sequence, "%.*s", (int)named - 1, what + 1);
    } else {
        snprintf(report->name, sizeof report->name, "%.*s", (int)named, what);
    }
    if (is_port) snprintf(report->port, sizeof report->port, "%s", colon ? colon + 1 : what);
    if (!play.in_batch) send_reports();
}

static void add_end(const char *kind, const char *number) {
    int start = atoi(number);
    assert_true(start >= 1 && start <= play.start_count);
    add_report(kind, play.starts[start - 1], false);
}

/* --- words -------------------------------------------------------------------------------------------------------- */

static void connect_instance(void) {
    const char *token = sql_ask(play.db,
        "SELECT coalesce(error, tunnel_token) FROM bore.instances_connect(ARRAY [$1], ARRAY [$1], 3600000, 'host', "
        "7835, interval '1 minute', interval '30 minutes')",
        play.instance);
    assert_memory_equal(token, "tk_", 3);
    assert_true(play.token_count < TOKENS_MAX);
    snprintf(play.tokens[play.token_count++], sizeof play.tokens[0], "%s", token);
}

static void validate(const char *which) {
    bool refused = strchr(which, '!') != NULL;
    int token = atoi(which) > 0 ? atoi(which) : play.token_count;
    const char *answer = sql_ask(play.db,
        "SELECT concat_ws(' ', valid, usage_allowed, message) FROM bore.validate_keys(ARRAY [$1], interval '1 minute')",
        play.tokens[token - 1]);
    if (strncmp(answer, refused ? "f f " : "t t ", 4) != 0) fail_msg("validate-key answers: %s", answer);
}

static void play_word(const char *word) {
    if (word[0] == 'K') {
        connect_instance();
    } else if (word[0] == 'V') {
        validate(word + 1);
    } else if (word[0] == 'C') {
        add_report("connected", word + 1, true);
    } else if (strncmp(word, "DE", 2) == 0) {
        add_end("disconnected", word + 2);
    } else if (word[0] == 'D') {
        add_report("disconnected", word + 1, false);
    } else if (word[0] == 'S') {
        add_report("start", word + 1, true);
    } else if (word[0] == 'E') {
        add_end("end", word + 1);
    } else if (word[0] == 'U') {
        sql_ask(play.db, "SELECT bore.instance_disconnect($1, $1, interval '30 minutes')", play.instance);
    } else if (word[0] == 'P') {
        sql_ask(play.db, "SELECT bore.instance_connection($1, $1, $2, NULL, NULL, interval '30 minutes')",
            play.instance, word + 1);
    } else if (word[0] == '+') {
        pass(atoi(word + 1) * 1000LL);
    } else if (word[0] == '?') {
        sql_ask(play.db, "SELECT bore.tunnel_doubts(100, interval '30 minutes')");
    } else if (word[0] == '[' || word[0] == ']') {
        play.in_batch = word[0] == '[';
        if (!play.in_batch) send_reports();
    } else {
        fail_msg("no such word: %s", word);
    }
}

const char *tunnel_script_play(struct db *connection, const char *script) {
    long long now = play.now;
    memset(&play, 0, sizeof play);
    play.db = connection;
    play.now = now;
    pass(100000); /* what was before is long ago */
    play.instance = sql_ask(connection,
        "WITH account AS (INSERT INTO bore.users (id, email, name, password_hash, plan) "
        "SELECT id, id || '@example.org', 'Test', 'x', 'pro' FROM (SELECT bore.new_id('both') AS id) AS fresh "
        "RETURNING id), made AS (INSERT INTO bore.instances (id, user_id, name, local_port, created_at, phase_since, "
        "status_since) SELECT id, id, 'Test', 80, bore.clock(), bore.clock(), bore.clock() FROM account RETURNING *), "
        "told AS (INSERT INTO bore.status_history (instance_id, status, reason, at) "
        "SELECT id, status, status_reason, status_since FROM made) SELECT id FROM account");
    char words[400];
    snprintf(words, sizeof words, "%s", script);
    char *rest = NULL;
    for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        play_word(word);
        pass(STEP_MS);
    }
    return sql_ask(connection,
        "SELECT concat_ws(' ', status, CASE WHEN phase = 'connected' THEN remote_port END) FROM bore.instances "
        "WHERE id = $1",
        play.instance);
}

const char *tunnel_script_instance(void) {
    return play.instance;
}

const char *tunnel_script_token(int n) {
    return play.tokens[n - 1];
}

const char *tunnel_script_history(struct db *connection) {
    return sql_ask(connection,
        "SELECT string_agg(status, ' ' ORDER BY at, id) FROM bore.status_history WHERE instance_id = $1",
        play.instance);
}

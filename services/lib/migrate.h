/*
 * migrate.h: brings the schema `bore` to this program's version (sql/NNN_name.sql, embedded), once, under an advisory
 * lock.
 */
#ifndef BORE_SERVICES_LIB_MIGRATE_H
#define BORE_SERVICES_LIB_MIGRATE_H

#include <stddef.h>

#include "common/db.h"

struct migration {
    int number;
    const char *name;
    const char *sql;
};
extern const struct migration migrations[]; /* in order; generated from sql/ */
extern const size_t migrations_count;

/* 0 when the schema is at this program's version (after applying what was missing, each migration in one transaction);
 * -ENOTSUP when the database is newer than the program; else a db error. Logs what it applied. Waits for a concurrent
 * run. */
int migrate(struct db *db);
/* The same with another set of migrations, in order of their numbers. */
int migrate_with(struct db *db, const struct migration *list, size_t count);

#endif

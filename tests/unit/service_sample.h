/*
 * service_sample.h: a small worker with the registry's methods and lanes, for tests of the skeleton. It has one of
 * each: a handler, queries, a batch, a timer, a ping; what they note goes into the schema `test`.
 */
#ifndef TESTS_UNIT_SERVICE_SAMPLE_H
#define TESTS_UNIT_SERVICE_SAMPLE_H

#include "services/lib/service.h"

extern const struct service service_sample;

#endif

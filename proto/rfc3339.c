/*
 * rfc3339.c: milliseconds since the Unix epoch to RFC 3339 and back; proleptic Gregorian, UTC, no leap seconds.
 *
 * Own arithmetic, because gmtime and strftime cost more than all the rest of an answer's JSON. Days are counted from
 * 1 March 0000, so that the leap day is the last of its year; 146097 days are 400 years.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "proto/message_json.h"

#define MILLISECONDS_A_DAY 86400000
#define TIME_MINIMUM       (-62135596800000) /* year 1 */
#define TIME_MAXIMUM       253402300799999   /* year 9999 */
#define EPOCH_DAY          719468            /* 1 January 1970 */

static char *put_digits(char *to, unsigned value, unsigned width, char after) {
    for (unsigned i = width; i > 0; i--, value /= 10)
        to[i - 1] = (char)('0' + value % 10);
    to[width] = after;
    return to + width + 1;
}

void time_to_rfc3339(int64_t milliseconds, char *buffer, size_t size) {
    if (size < 25) {
        if (size > 0) buffer[0] = '\0';
        return;
    }
    if (milliseconds < TIME_MINIMUM) milliseconds = TIME_MINIMUM;
    if (milliseconds > TIME_MAXIMUM) milliseconds = TIME_MAXIMUM;
    int64_t since = milliseconds + (int64_t)EPOCH_DAY * MILLISECONDS_A_DAY; /* never negative */
    unsigned days = (unsigned)(since / MILLISECONDS_A_DAY);
    unsigned in_day = (unsigned)(since % MILLISECONDS_A_DAY);

    unsigned era = days / 146097;
    unsigned day_of_era = days % 146097;
    unsigned year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned march_month = (5 * day_of_year + 2) / 153;
    unsigned day = day_of_year - (153 * march_month + 2) / 5 + 1;
    unsigned month = march_month < 10 ? march_month + 3 : march_month - 9;
    unsigned year = era * 400 + year_of_era + (month <= 2);

    char *to = put_digits(buffer, year, 4, '-');
    to = put_digits(to, month, 2, '-');
    to = put_digits(to, day, 2, 'T');
    to = put_digits(to, in_day / 3600000, 2, ':');
    to = put_digits(to, in_day / 60000 % 60, 2, ':');
    to = put_digits(to, in_day / 1000 % 60, 2, '.');
    to = put_digits(to, in_day % 1000, 3, 'Z');
    *to = '\0';
}

/* Reads exactly `width` digits and the character after them ('\0': none is read); NULL when they are not there. */
static const char *take_digits(const char *text, unsigned width, char after, unsigned *ret_value) {
    unsigned value = 0;
    for (unsigned i = 0; i < width; i++, text++) {
        if (!isdigit((unsigned char)*text)) return NULL;
        value = value * 10 + (unsigned)(*text - '0');
    }
    *ret_value = value;
    if (after == '\0') return text;
    return *text == after ? text + 1 : NULL;
}

/* An optional fraction of a second, to milliseconds; further digits are cut. */
static const char *take_fraction(const char *text, unsigned *ret_milliseconds) {
    unsigned value = 0;
    unsigned weight = 100;
    if (*text == '.') {
        text++;
        if (!isdigit((unsigned char)*text)) return NULL;
        for (; isdigit((unsigned char)*text); text++, weight /= 10)
            value += weight * (unsigned)(*text - '0');
    }
    *ret_milliseconds = value;
    return text;
}

/* Z or +hh:mm or -hh:mm up to the end of the text. */
static const char *take_offset(const char *text, int64_t *ret_minutes) {
    *ret_minutes = 0;
    if (strcmp(text, "Z") == 0 || strcmp(text, "z") == 0) return text + 1;
    if (*text != '+' && *text != '-') return NULL;
    bool is_west = *text == '-';
    unsigned hours;
    unsigned minutes;
    text = take_digits(text + 1, 2, ':', &hours);
    if (text != NULL) text = take_digits(text, 2, '\0', &minutes);
    if (text == NULL || *text != '\0' || hours > 23 || minutes > 59) return NULL;
    *ret_minutes = is_west ? -(int64_t)(hours * 60 + minutes) : (int64_t)(hours * 60 + minutes);
    return text;
}

static unsigned days_of_month(unsigned year, unsigned month) {
    static const unsigned char days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return month == 2 && is_leap ? 29 : days[month - 1];
}

static int64_t days_since_epoch(unsigned year, unsigned month, unsigned day) {
    unsigned march_year = month <= 2 ? year - 1 : year;
    unsigned march_month = month <= 2 ? month + 9 : month - 3;
    unsigned year_of_era = march_year % 400;
    unsigned day_of_year = (153 * march_month + 2) / 5 + day - 1;
    unsigned day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return (int64_t)(march_year / 400) * 146097 + day_of_era - EPOCH_DAY;
}

int time_from_rfc3339(const char *text, int64_t *ret_milliseconds) {
    unsigned year;
    unsigned month;
    unsigned day;
    unsigned hour;
    unsigned minute;
    unsigned second;
    unsigned fraction;
    int64_t offset;
    if ((text = take_digits(text, 4, '-', &year)) == NULL || (text = take_digits(text, 2, '-', &month)) == NULL ||
        (text = take_digits(text, 2, '\0', &day)) == NULL || strchr("Tt ", *text) == NULL || *text == '\0' ||
        (text = take_digits(text + 1, 2, ':', &hour)) == NULL || (text = take_digits(text, 2, ':', &minute)) == NULL ||
        (text = take_digits(text, 2, '\0', &second)) == NULL || (text = take_fraction(text, &fraction)) == NULL ||
        take_offset(text, &offset) == NULL)
        return -EINVAL;
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_of_month(year, month) || hour > 23 ||
        minute > 59 || second > 59)
        return -EINVAL;
    int64_t minutes = days_since_epoch(year, month, day) * 1440 + (int64_t)hour * 60 + minute - offset;
    int64_t milliseconds = minutes * 60000 + (int64_t)second * 1000 + fraction;
    if (milliseconds < TIME_MINIMUM || milliseconds > TIME_MAXIMUM) return -EINVAL;
    *ret_milliseconds = milliseconds;
    return 0;
}

/*
 * banned.h: functions that nobody here calls, because they write without knowing how much room there is or keep hidden
 * state. The compiler includes this file before every other; the headers that declare the functions come first, so that
 * no system header is touched. Instead: strbuf, snprintf, memcpy with a checked size, strtok_r or strcspn.
 */
#ifndef BORE_COMMON_BANNED_H
#define BORE_COMMON_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BANNED(function) sorry_##function##_is_a_banned_function

#undef strcpy
#define strcpy(to, from) BANNED(strcpy)
#undef strncpy
#define strncpy(to, from, size) BANNED(strncpy)
#undef strcat
#define strcat(to, from) BANNED(strcat)
#undef strtok
#define strtok(text, delimiters) BANNED(strtok)
#undef sprintf
#define sprintf(...) BANNED(sprintf)
#undef vsprintf
#define vsprintf(to, format, arguments) BANNED(vsprintf)
#undef gets
#define gets(to) BANNED(gets)

#endif

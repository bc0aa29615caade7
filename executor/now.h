/* now.h - the time, by a clock that only goes forward. */
#ifndef BALLAST_EXECUTOR_NOW_H
#define BALLAST_EXECUTOR_NOW_H

#include <stdint.h>

int64_t now_ns(void);
double now_s(void);

#endif

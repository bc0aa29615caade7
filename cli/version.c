/* version.c - the one place that knows the version; the Makefile defines the commit of a git checkout. */
#include "cli/commands.h"

#define VERSION "0.1.0"

#ifndef BALLAST_COMMIT
#define BALLAST_COMMIT ""
#endif

const char *ballast_version(void)
{
    return sizeof BALLAST_COMMIT > 1 ? VERSION "+" BALLAST_COMMIT : VERSION;
}

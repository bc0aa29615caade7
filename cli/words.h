/* words.h - a command line kept as text (in a paper's table, in a trace's header) back to words. */
#ifndef BALLAST_CLI_WORDS_H
#define BALLAST_CLI_WORDS_H

/* Cuts the text at spaces; what stands between double quotes is one word. At most `max` words, which point into the text; returns how
 * many. */
int words_split(char *text, char **word, int max);

#endif

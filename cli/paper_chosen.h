/* paper_chosen.h - what ballast would have chosen on a paper's machine, beside the paper's policies. */
#ifndef BALLAST_CLI_PAPER_CHOSEN_H
#define BALLAST_CLI_PAPER_CHOSEN_H

#include "cli/output.h"
#include "cli/published.h"

/* Prints for every policy that the paper chose what `hardware` is predicted to reach with it, with ballast's plan for the same model and prompts, and the
 * gain with its error bar. */
enum status paper_chosen(const struct published *p, const char *hardware, enum output_format format, struct error *err);

#endif

/* commands.h - the subcommands: each parses its options, calls the modules, prints, and returns the exit code (enum status).
 *
 * argv[0] is the command's own name. ballast.c has the table.
 */
#ifndef BALLAST_CLI_COMMANDS_H
#define BALLAST_CLI_COMMANDS_H

int cmd_devices(int argc, char **argv);
int cmd_profile(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_predict(int argc, char **argv);
int cmd_simulate(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_sweep(int argc, char **argv);
int cmd_fit(int argc, char **argv);
int cmd_validate(int argc, char **argv);
int cmd_paper(int argc, char **argv);
int cmd_plot(int argc, char **argv);

/* "0.1.0" or "0.1.0+commit": stamped into traces and results. */
const char *ballast_version(void);

#endif

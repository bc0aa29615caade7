/* Resources that share something: the part of a hardware profile that says so. */
#include <criterion/criterion.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/profile_rounds.h"
#include "model/hardware.h"
#include "tests/machine.h"

#define GROUP(name, resources) "{\"name\": \"" name "\", \"resources\": {" resources "}, \"source\": \"x\"}"

/* A profile of {ram, disk} with these groups. */
static enum status parse(struct hardware *hw, const char *groups, struct error *err)
{
    static const char profile[] =
        "{\"ballast_hardware\": 1, \"name\": \"box\", \"estimate\": \"measured\", \"tiers\": ["
        "{\"name\": \"ram\", \"kind\": \"host\", \"capacity\": \"16 GiB\", \"source\": \"a\"},"
        "{\"name\": \"disk\", \"kind\": \"disk\", \"capacity\": \"1 TB\", \"source\": \"a\"}], \"links\": ["
        "{\"upper\": \"ram\", \"lower\": \"disk\", \"read\": [{\"size\": \"1 MiB\", \"rate\": \"2 GB/s\"}],"
        " \"write\": [{\"size\": \"1 MiB\", \"rate\": \"1 GB/s\"}], \"read_latency\": \"0 s\", \"write_latency\": \"0 s\","
        " \"source\": \"a\"}], \"compute\": ["
        "{\"name\": \"cpu\", \"tier\": \"ram\", \"activation\": \"f32\", \"math\": \"f32\", \"threads\": 2,"
        " \"matmul\": {\"f16\": [{\"rows\": 1, \"rate\": \"1 TFLOP/s\"}]}, \"attention_prefill\": \"1 TFLOP/s\","
        " \"attention_decode\": {\"f32\": \"1 GB/s\"}, \"memory_bandwidth\": \"1 GB/s\", \"launch\": \"0 s\","
        " \"workspace\": \"0 B\", \"source\": \"a\"}],\n"
        "\"contention\": %s}";
    char text[2000];
    int n = snprintf(text, sizeof text, profile, groups);
    return hardware_parse(hw, "box.json", text, (size_t)n, err);
}

Test(contention, resources_are_named_with_their_shares)
{
    struct hardware hw;
    struct error err = {0};
    enum status status = parse(&hw, "[" GROUP("drive", "\"disk->ram\": \"100 %\", \"ram->disk\": \"62.5 %\"") "]", &err);
    cr_assert_eq(status, STATUS_OK, "%s", err.text);
    cr_assert_eq(hw.n_contentions, 1);
    cr_assert_str_eq(hw.contention[0].name, "drive");
    cr_assert_eq(hw.contention[0].share[resource_link_read(0)], 1);
    cr_assert_eq(hw.contention[0].share[resource_link_write(0)], 0.625);
    cr_assert_eq(hw.contention[0].share[resource_compute(&hw, 0)], 0, "not of the group");
}

static const struct {
    const char *groups, *message;
} bad[] = {
    {"[]", "box.json:2: key 'contention': expected a list of 1 to 4, found a list of 0"},
    {"[" GROUP("a", "\"gpu->cpu\": \"1 %\"") "]",
     "box.json:2: key 'contention[0].resources.gpu->cpu': expected one of the resources disk->ram, ram->disk, cpu compute"},
    {"[" GROUP("a", "\"disk->ram\": \"101 %\"") "]",
     "box.json:2: key 'contention[0].resources.disk->ram': expected more than 0 % and at most 100 %, found 101 %"},
    {"[" GROUP("a", "\"disk->ram\": \"0 %\"") "]",
     "box.json:2: key 'contention[0].resources.disk->ram': expected more than 0 % and at most 100 %, found 0 %"},
    {"[" GROUP("a", "\"disk->ram\": 1") "]",
     "box.json:2: key 'contention[0].resources.disk->ram': expected a share such as \"8 %\", found the number 1"},
    {"[" GROUP("a", "\"disk->ram\": \"1 %\"") "]",
     "box.json:2: key 'contention[0].resources': expected at least two resources, found 1"},
    {"[{\"name\": \"a\", \"resources\": {\"disk->ram\": \"1 %\", \"ram->disk\": \"1 %\"}}]",
     "box.json:2: key 'contention[0].source': expected a text that says where these numbers come from, found none"},
    {"[" GROUP("a",
               "\"disk->ram\": \"1 %\", \"ram->disk\": \"1 %\"") "," GROUP("a",
                                                                           "\"disk->ram\": \"1 %\", \"ram->disk\": \"1 %\"") "]",
     "box.json:2: key 'contention[1].name': expected a name used once, found \"a\" twice"},
};

Test(contention, bad_groups_get_one_clear_line)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct hardware hw;
        struct error err = {0};
        cr_assert_eq(parse(&hw, bad[i].groups, &err), STATUS_INVALID, "taken: %s", bad[i].groups);
        cr_assert_str_eq(err.text, bad[i].message);
    }
}

Test(contention, what_is_saved_loads_again)
{
    char path[] = "/tmp/ballast-contention-XXXXXX";
    int fd = mkstemp(path);
    struct hardware hw = test_machine(3, "f32"), again;
    struct error err = {0};
    cr_assert_geq(fd, 0);
    close(fd);
    hw.n_contentions = 2;
    hw.contention[0] = (struct contention){.name = "thread", .share = {[4] = 1, [5] = 1}};
    hw.contention[1] = (struct contention){.name = "memory", .share = {[0] = 0.1234, [1] = 0.2, [2] = 1.0 / 3, [5] = 1}};
    cr_assert_eq(hardware_save(&hw, path, "test", &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(hardware_load(&again, path, &err), STATUS_OK, "%s", err.text);
    unlink(path);
    cr_assert_eq(again.n_contentions, 2);
    for (int i = 0; i < 2; i++) {
        cr_assert_str_eq(again.contention[i].name, hw.contention[i].name);
        for (int r = 0; r < resource_count(&hw); r++) /* nine digits are kept */
            cr_assert_leq(fabs(again.contention[i].share[r] - hw.contention[i].share[r]), 1e-9);
    }
}

Test(contention, two_directions_at_once_say_what_they_share)
{
    struct hardware hw = {.n_tiers = 2, .n_computes = 1};
    int up = resource_link_read(0), down = resource_link_write(0);
    /* Alone 2 and 3 GB/s, together 1.5 and 1.5: 1.5/2 + 1.5/3 = 1.25 at once. A second's work of each takes 2/1.25 = 1.6 s. */
    contention_of_pair(&hw, "drive", up, down, 1.5 / 2 + 1.5 / 3);
    cr_assert_eq(hw.n_contentions, 1);
    cr_assert_str_eq(hw.contention[0].name, "drive");
    cr_assert_float_eq(hw.contention[0].share[up] + hw.contention[0].share[down], 1.6, 1e-12);
    cr_assert_eq(hw.contention[0].share[up], hw.contention[0].share[down]);
    contention_of_pair(&hw, "worse", up, down, 0.8); /* slower than taking turns: all of it is the most that a share can be */
    cr_assert_eq(hw.contention[1].share[up], 1);
    contention_of_pair(&hw, "free", up, down, 2); /* neither slows the other */
    cr_assert_eq(hw.n_contentions, 2);
}

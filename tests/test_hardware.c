#include <criterion/criterion.h>

#include <glob.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/data.h"
#include "model/hardware.h"
#include "tests/failing_json.h"

/* -- curves -------------------------------------------------------------------------------------------------------- */

static const double tight = 1e-12;

static void near(double value, double expected)
{
    cr_assert_leq(fabs(value - expected), tight * fabs(expected), "expected %.17g, found %.17g", expected, value);
}

Test(hardware, a_curve_is_linear_in_logarithms_between_its_samples)
{
    struct curve c = {.n = 3, .x = {1, 100, 400}, .y = {10, 1000, 500}};
    /* 10 is half way from 1 to 100 in the logarithm, and 100 half way from 10 to 1000. */
    near(curve_at(&c, 10), 100);
    /* 200 is half way from 100 to 400; sqrt(1000 * 500) = 707.1. */
    near(curve_at(&c, 200), sqrt(1000.0 * 500));
    cr_assert_eq(curve_at(&c, 100), 1000, "a sample is returned as it is");
}

Test(hardware, a_curve_is_flat_outside_its_samples)
{
    struct curve c = {.n = 2, .x = {4, 8}, .y = {3, 5}}, one = {.n = 1, .x = {64}, .y = {7}};
    cr_assert_eq(curve_at(&c, 1e-9), 3);
    cr_assert_eq(curve_at(&c, 4), 3);
    cr_assert_eq(curve_at(&c, 8), 5);
    cr_assert_eq(curve_at(&c, 1e30), 5);
    cr_assert_eq(curve_at(&one, 1), 7);
    cr_assert_eq(curve_at(&one, 64), 7);
    cr_assert_eq(curve_at(&one, 1000), 7);
}

/* -- files --------------------------------------------------------------------------------------------------------- */

static const char valid[] = /* its lines are cited below */
    "{\n"
    " \"ballast_hardware\": 1, \"name\": \"box\", \"estimate\": \"measured\",\n"
    " \"tiers\": [\n"
    "  {\"name\": \"ram\", \"kind\": \"host\", \"capacity\": \"16 GiB\", \"source\": \"free\"},\n"
    "  {\"name\": \"disk\", \"kind\": \"disk\", \"capacity\": \"100 GB\", \"source\": \"df\"}\n"
    " ],\n"
    " \"links\": [\n"
    "  {\"upper\": \"ram\", \"lower\": \"disk\",\n"
    "   \"read\": [{\"size\": \"1 MiB\", \"rate\": \"1.2 GB/s\"}, {\"size\": \"8 MiB\", \"rate\": \"2 GB/s\"}],\n"
    "   \"write\": [{\"size\": \"4 KiB\", \"rate\": \"900 MB/s\"}],\n"
    "   \"read_latency\": \"80 us\", \"write_latency\": \"0 s\", \"source\": \"fio\"}\n"
    " ],\n"
    " \"compute\": [\n"
    "  {\"name\": \"cpu\", \"tier\": \"ram\", \"activation\": \"f32\", \"math\": \"bf16\", \"threads\": 2,\n"
    "   \"matmul\": {\"f16\": [{\"rows\": 1, \"rate\": \"10 GFLOP/s\"}, {\"rows\": 64, \"rate\": \"90 GFLOP/s\"}],\n"
    "              \"q4\": [{\"rows\": 1, \"rate\": \"15 GFLOP/s\"}]},\n"
    "   \"attention_prefill\": \"20 GFLOP/s\", \"attention_decode\": {\"f32\": \"20 GB/s\", \"q4\": \"8 GB/s\"},\n"
    "   \"memory_bandwidth\": \"21 GB/s\", \"launch\": \"5 us\", \"workspace\": \"64 MiB\", \"source\": \"bench\"}\n"
    " ]\n"
    "}\n";

static enum status parse(struct hardware *hw, const char *text, struct error *err)
{
    return hardware_parse(hw, "box.json", text, strlen(text), err);
}

static struct hardware box(void)
{
    struct hardware hw;
    struct error err = {0};
    cr_assert_eq(parse(&hw, valid, &err), STATUS_OK, "%s", err.text);
    return hw;
}

Test(hardware, every_field_arrives)
{
    struct hardware hw = box();
    const struct compute *c = &hw.compute[0];
    cr_assert_str_eq(hw.name, "box");
    cr_assert_str_eq(hw.estimate, "measured");
    cr_assert_eq(hw.n_tiers, 2);
    cr_assert_str_eq(hw.tier[0].name, "ram");
    cr_assert_eq(hw.tier[0].kind, TIER_HOST);
    cr_assert_eq(hw.tier[0].capacity_bytes, (int64_t)16 << 30);
    cr_assert_eq(hw.tier[1].kind, TIER_DISK);
    cr_assert_eq(hw.tier[1].capacity_bytes, 100000000000);
    cr_assert_eq(hw.link[0].read_bytes_per_s.n, 2);
    cr_assert_eq(hw.link[0].read_bytes_per_s.x[1], 8388608);
    cr_assert_eq(hw.link[0].read_bytes_per_s.y[0], 1.2e9);
    cr_assert_eq(hw.link[0].write_bytes_per_s.x[0], 4096);
    cr_assert_eq(hw.link[0].read_latency_s, 80e-6);
    cr_assert_eq(hw.link[0].write_latency_s, 0);
    cr_assert_eq(hw.n_computes, 1);
    cr_assert_str_eq(c->name, "cpu");
    cr_assert(c->tier == 0 && c->activation == FORMAT_F32 && c->threads == 2);
    cr_assert_str_eq(c->math, "bf16");
    cr_assert(c->matmul[FORMAT_F16].n == 2 && c->matmul[FORMAT_Q4].n == 1 && c->matmul[FORMAT_F32].n == 0);
    cr_assert_eq(c->matmul[FORMAT_F16].y[1], 90e9);
    cr_assert_eq(c->attention_prefill_flops_per_s, 20e9);
    cr_assert_eq(c->attention_decode_bytes_per_s[FORMAT_F32], 20e9);
    cr_assert_eq(c->attention_decode_bytes_per_s[FORMAT_F16], 0, "not measured");
    cr_assert_eq(c->memory_bytes_per_s, 21e9);
    cr_assert_eq(c->launch_s, 5e-6);
    cr_assert_eq(c->workspace_bytes, 67108864);
}

/* The valid file with the first `old` replaced; caller frees. */
static char *edited(const char *text, const char *old, const char *new)
{
    const char *at = strstr(text, old);
    cr_assert_not_null(at, "'%s' is not in the text", old);
    size_t size = strlen(text) + strlen(new) + 1;
    char *out = malloc(size);
    snprintf(out, size, "%.*s%s%s", (int)(at - text), text, new, at + strlen(old));
    return out;
}

struct edit {
    const char *old, *new, *message;
};

static const struct edit edits[] = {
    {"\"write_latency\": \"0 s\"", "\"write_latency\": \"0 s\", \"pageable_read\": []",
     "box.json:11: key 'links[0].pageable_read': expected a list of 1 to 32, found a list of 0"},
    {"\"write_latency\": \"0 s\"", "\"write_latency\": \"0 s\", \"pinning\": \"0 B/s\"",
     "box.json:11: key 'links[0].pinning': expected a rate above 0, found 0 B/s"},
    {"\"workspace\": \"64 MiB\"", "\"workspace\": \"64 MiB\", \"spread\": 0.1",
     "box.json:18: key 'compute[0].spread': expected a share such as \"8 %\", found the number 0.1"},
    {"\"workspace\": \"64 MiB\"", "\"workspace\": \"64 MiB\", \"spread\": \"300 %\"",
     "box.json:18: key 'compute[0].spread': expected 0 % to 200 %, found 300 %"},
    {"\"ballast_hardware\": 1", "\"ballast_hardware\": 2",
     "box.json:2: key 'ballast_hardware': expected the whole number 1, found the number 2"},
    {"\"ballast_hardware\": 1,", "", "box.json:1: key 'ballast_hardware': expected the whole number 1, found nothing"},
    {"\"name\": \"box\"", "\"name\": \"my box\"",
     "box.json:2: key 'name': expected a name of a-z, 0-9, '_' and '-', found \"my box\""},
    {"\"name\": \"box\"", "\"name\": \"\"", "box.json:2: key 'name': expected a name, found the empty text"},
    {"\"measured\"", "\"guessed\"",
     "box.json:2: key 'estimate': expected one of \"measured\", \"mixed\", \"datasheet\", \"emulated\", found \"guessed\""},
    {"\"estimate\"", "\"estimation\": 1, \"estimate\"",
     "box.json:2: key 'estimation': expected only the keys ballast_hardware, name, estimate, tiers, links, compute, "
     "runtime, contention; found the unknown key 'estimation'"},
    {"\"capacity\": \"16 GiB\"", "\"capacity\": 16",
     "box.json:4: key 'tiers[0].capacity': expected a size such as \"16 GiB\", found the number 16"},
    {"\"capacity\": \"16 GiB\"", "\"capacity\": \"0 B\"",
     "box.json:4: key 'tiers[0].capacity': expected 1 B to 8 PiB, found 0 B"},
    {"\"capacity\": \"16 GiB\"", "\"capacity\": \"9 PiB\"",
     "box.json:4: key 'tiers[0].capacity': expected 1 B to 8 PiB, found 10133099161583616 B"},
    {"\"capacity\": \"16 GiB\", ", "", "box.json:4: key 'tiers[0].capacity': expected a size such as \"16 GiB\", found nothing"},
    {"\"source\": \"free\"", "\"source\": \" \"",
     "box.json:4: key 'tiers[0].source': expected a text that says where these numbers come from, found an empty one"},
    {", \"source\": \"fio\"", "",
     "box.json:8: key 'links[0].source': expected a text that says where these numbers come from, found none"},
    {"\"source\": \"bench\"", "\"source\": 3",
     "box.json:18: key 'compute[0].source': expected a text that says where these numbers come from, found none"},
    {"\"name\": \"disk\"", "\"name\": \"ram\"",
     "box.json:5: key 'tiers[1].name': expected a name used once, found \"ram\" twice"},
    {"\"name\": \"disk\"", "\"name\": \"a-name-too-long-\"",
     "box.json:5: key 'tiers[1].name': expected a text of at most 15 bytes, found 16 bytes"},
    {"\"kind\": \"host\"", "\"kind\": \"disk\"",
     "box.json:3: key 'tiers': expected the last tier, and no other, of kind \"disk\"; found 2 of that kind"},
    {"\"kind\": \"disk\"", "\"kind\": \"host\"",
     "box.json:3: key 'tiers': expected the last tier, and no other, of kind \"disk\"; found 0 of that kind"},
    {"\"kind\": \"disk\"", "\"kind\": \"device\"",
     "box.json:5: key 'tiers[1].kind': expected the tiers in the order device, host, disk; found \"device\" below \"host\""},
    {"\"upper\": \"ram\"", "\"upper\": \"disk\"",
     "box.json:8: key 'links[0].upper': expected \"ram\" (links join neighbouring tiers, in their order), found \"disk\""},
    {"\"lower\": \"disk\"", "\"lower\": \"ram\"",
     "box.json:8: key 'links[0].lower': expected \"disk\" (links join neighbouring tiers, in their order), found \"ram\""},
    {"\"links\": [", "\"links\": [ {},", "box.json:7: key 'links': expected a list of 1, found a list of 2"},
    {"\"size\": \"8 MiB\"", "\"size\": \"1 MiB\"",
     "box.json:9: key 'links[0].read[1].size': expected more than the 1048576 before it, found 1048576"},
    {"\"rate\": \"2 GB/s\"", "\"rate\": \"0 GB/s\"",
     "box.json:9: key 'links[0].read[1].rate': expected a rate above 0, found 0 GB/s"},
    {"\"rate\": \"900 MB/s\"", "\"rate\": \"900 MB\"",
     "box.json:10: key 'links[0].write[0].rate': expected a rate such as \"12.1 GB/s\", found the text \"900 MB\""},
    {"[{\"size\": \"4 KiB\", \"rate\": \"900 MB/s\"}]", "[]",
     "box.json:10: key 'links[0].write': expected a list of 1 to 32, found a list of 0"},
    {"\"read_latency\": \"80 us\"", "\"read_latency\": \"-80 us\"",
     "box.json:11: key 'links[0].read_latency': expected a time such as \"5 us\", found the text \"-80 us\""},
    {"\"tier\": \"ram\"", "\"tier\": \"disk\"",
     "box.json:14: key 'compute[0].tier': expected \"ram\" (the units are on the first tiers, in their order), found \"disk\""},
    {"\"activation\": \"f32\"", "\"activation\": \"bf16\"",
     "box.json:14: key 'compute[0].activation': expected one of \"f32\", \"f16\", found \"bf16\""},
    {"\"math\": \"bf16\"", "\"math\": \"int8\"",
     "box.json:14: key 'compute[0].math': expected one of \"f32\", \"bf16\", \"f16\", found \"int8\""},
    {"\"threads\": 2", "\"threads\": -1",
     "box.json:14: key 'compute[0].threads': expected a whole number from 0 to 65536, found the number -1"},
    {"\"rows\": 64", "\"rows\": 1",
     "box.json:15: key 'compute[0].matmul.f16[1].rows': expected more than the 1 before it, found 1"},
    {"\"rows\": 64", "\"rows\": 6.5",
     "box.json:15: key 'compute[0].matmul.f16[1].rows': expected a whole number from 1 to 1000000000, found the number 6.5"},
    {"\"q4\": [", "\"q3\": [", "box.json:16: key 'compute[0].matmul.q3': expected one of the formats f32, f16, bf16, q4"},
    {"{\"f32\": \"20 GB/s\", \"q4\": \"8 GB/s\"}", "{}",
     "box.json:17: key 'compute[0].attention_decode': expected the rate of at least one format, found none"},
    {"\"launch\": \"5 us\"", "\"launch\": \"5\"",
     "box.json:18: key 'compute[0].launch': expected a time such as \"5 us\", found the text \"5\""},
};

Test(hardware, bad_files_get_one_clear_line)
{
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        struct hardware hw = {.n_tiers = 77};
        struct error err = {0};
        char *text = edited(valid, edits[i].old, edits[i].new);
        cr_assert_eq(parse(&hw, text, &err), STATUS_INVALID, "taken: %s", edits[i].new);
        cr_assert_str_eq(err.text, edits[i].message);
        cr_assert_eq(hw.n_tiers, 77, "the machine is left alone");
        free(text);
    }
}

Test(hardware, what_pinned_memory_costs_may_be_left_out)
{
    struct hardware hw = box();
    struct error err = {0};
    cr_assert_eq(hw.link[0].pageable_read_bytes_per_s.n, 0);
    cr_assert_eq(hw.link[0].pinning_bytes_per_s, 0);
    char *text = edited(
        valid, "\"write_latency\": \"0 s\"",
        "\"write_latency\": \"0 s\", \"pinning\": \"3 GB/s\", \"pageable_read\": [{\"size\": \"1 MiB\", \"rate\": \"6 GB/s\"}]");
    cr_assert_eq(parse(&hw, text, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(hw.link[0].pinning_bytes_per_s, 3e9);
    cr_assert_eq(hw.link[0].pageable_read_bytes_per_s.n, 1);
    cr_assert_eq(curve_at(&hw.link[0].pageable_read_bytes_per_s, 1e9), 6e9);
    free(text);
}

Test(hardware, spreads_may_be_left_out)
{
    struct hardware hw = box();
    struct error err = {0};
    cr_assert_eq(hw.link[0].read_spread, 0);
    cr_assert_eq(hw.compute[0].spread, 0);
    char *text = edited(valid, "\"write_latency\": \"0 s\"", "\"write_latency\": \"0 s\", \"read_spread\": \"8 %\"");
    cr_assert_eq(parse(&hw, text, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(hw.link[0].read_spread, 0.08);
    cr_assert_eq(hw.link[0].write_spread, 0);
    free(text);
}

/* The file with its only unit a second time, as `name` on `tier`. */
static char *with_second_unit(const char *name, const char *tier)
{
    char place[80], units[2000];
    const char *unit = strstr(valid, "  {\"name\": \"cpu\""), *end = strstr(unit, "\n ]\n}\n");
    snprintf(place, sizeof place, "\"%s\", \"tier\": \"%s\"", name, tier);
    char *second = edited(unit, "\"cpu\", \"tier\": \"ram\"", place); /* with the end of the file behind it */
    snprintf(units, sizeof units, ",\n%s", second);
    char *text = edited(valid, end, units);
    free(second);
    return text;
}

Test(hardware, a_second_unit_sits_on_the_second_tier_which_is_memory)
{
    struct hardware hw;
    struct error on_disk = {0}, on_ram = {0}, twice = {0};
    char *text[] = {with_second_unit("far", "disk"), with_second_unit("far", "ram"), with_second_unit("cpu", "disk")};
    cr_assert_eq(parse(&hw, text[0], &on_disk), STATUS_INVALID);
    cr_assert_str_eq(on_disk.text, "box.json:19: key 'compute[1].tier': expected a tier that is memory, found the disk \"disk\"");
    cr_assert_eq(parse(&hw, text[1], &on_ram), STATUS_INVALID);
    cr_assert(strstr(on_ram.text, "expected \"disk\" (the units are on the first tiers, in their order), found \"ram\""), "%s",
              on_ram.text);
    cr_assert_eq(parse(&hw, text[2], &twice), STATUS_INVALID);
    cr_assert(strstr(twice.text, "key 'compute[1].name': expected a name used once, found \"cpu\" twice"), "%s", twice.text);
    for (int i = 0; i < 3; i++)
        free(text[i]);
}

Test(hardware, every_cut_of_a_file_is_refused)
{
    for (size_t n = 0; n + 2 < sizeof valid; n++) {
        struct hardware hw;
        struct error err = {0};
        cr_assert_eq(hardware_parse(&hw, "box.json", valid, n, &err), STATUS_INVALID, "%zu bytes were taken", n);
        cr_assert(err.text[0]);
    }
}

/* Every value of the file is replaced in turn by one of another type: none may be taken. */
static void spoil(json_t *value, const json_t *root, int *spoiled)
{
    const char *key;
    json_t *child;
    size_t i;
    void *next;
    if (json_is_object(value))
        json_object_foreach_safe(value, next, key, child)
        {
            struct hardware hw;
            struct error err = {0};
            json_incref(child);
            spoil(child, root, spoiled);
            json_object_set_new(value, key, json_true());
            char *text = json_dumps(root, 0);
            cr_assert_eq(parse(&hw, text, &err), STATUS_INVALID, "key %s as true was taken", key);
            cr_assert(strstr(err.text, key) || strstr(err.text, "format"), "%s does not name %s", err.text, key);
            free(text);
            json_object_set_new(value, key, child);
            ++*spoiled;
        }
    else if (json_is_array(value))
        json_array_foreach(value, i, child) spoil(child, root, spoiled);
}

Test(hardware, no_value_of_another_type_is_taken)
{
    json_t *root = json_loads(valid, 0, NULL);
    int spoiled = 0;
    spoil(root, root, &spoiled);
    /* 6 at the top, 2 * 4 in tiers, 7 in the link, 3 * 2 in its curves, 12 in the unit, 2 + 2 formats, 3 * 2 in curves. */
    cr_assert_eq(spoiled, 6 + 8 + 7 + 6 + 12 + 4 + 6);
    json_decref(root);
}

Test(hardware, every_allocation_may_fail)
{
    int n = 0;
    for (;; n++) {
        struct hardware hw;
        struct error err = {0};
        json_fails_after(n);
        enum status status = parse(&hw, valid, &err);
        cr_assert_eq(json_blocks, 0, "failing allocation %d leaks %d blocks", n, json_blocks);
        if (!status)
            break;
        cr_assert(err.text[0], "failing allocation %d is silent", n);
    }
    cr_assert_gt(n, 100, "only %d allocations", n);
}

/* -- budgets ------------------------------------------------------------------------------------------------------- */

Test(hardware, a_budget_narrows_its_tier)
{
    struct hardware hw = box();
    cr_assert_eq(hardware_tier(&hw, "disk"), 1);
    cr_assert_eq(hardware_tier(&hw, "gpu"), -1);
    cr_assert_eq(hardware_budget(&hw, "ram=1.5 GiB", NULL), STATUS_OK);
    cr_assert_eq(hw.tier[0].capacity_bytes, (int64_t)3 << 29);
    cr_assert_eq(hardware_budget(&hw, "disk=0B", NULL), STATUS_OK);
    cr_assert_eq(hw.tier[1].capacity_bytes, 0);
    /* 0.1 kB of 100.5: whole bytes, never more than asked. */
    cr_assert_eq(hardware_budget(&hw, "ram=100.5 B", NULL), STATUS_OK);
    cr_assert_eq(hw.tier[0].capacity_bytes, 100);
}

Test(hardware, bad_budgets)
{
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"ram", "budget 'ram': expected TIER=SIZE such as \"gpu=16GiB\""},
        {"", "budget '': expected TIER=SIZE such as \"gpu=16GiB\""},
        {"gpu=1GiB", "budget 'gpu=1GiB': expected one of the tiers ram, disk of box, found 'gpu'"},
        {"=1GiB", "budget '=1GiB': expected one of the tiers ram, disk of box, found ''"},
        {"a-name-much-too-long=1GiB",
         "budget 'a-name-much-too-long=1GiB': expected one of the tiers ram, disk of box, found 'a-name-much-too-long'"},
        {"ram=8", "budget 'ram=8': expected a size such as \"16 GiB\", found '8'"},
        {"ram=17GiB", "budget 'ram=17GiB': expected at most the 16 GiB that tier ram of box has, found 17GiB"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct hardware hw = box();
        struct error err = {0};
        cr_assert_eq(hardware_budget(&hw, bad[i].text, &err), STATUS_INVALID);
        cr_assert_str_eq(err.text, bad[i].message);
        cr_assert_eq(hw.tier[0].capacity_bytes, (int64_t)16 << 30);
    }
}

/* -- built-in profiles --------------------------------------------------------------------------------------------- */

static const char *const presets[] = {"a100-80gb", "h200", "l4", "rtx3090", "t4-flexgen", "t4-gcp"};

static struct hardware preset(const char *name)
{
    struct hardware hw;
    struct error err = {0};
    cr_assert_eq(hardware_load(&hw, name, &err), STATUS_OK, "%s", err.text);
    cr_assert_str_eq(hw.name, name);
    return hw;
}

Test(hardware, the_binary_holds_every_data_file_byte_for_byte)
{
    glob_t files;
    cr_assert_eq(glob("model/data/*/*.json", 0, NULL, &files), 0);
    cr_assert_geq(files.gl_pathc, sizeof presets / sizeof *presets);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        char kind[32], name[64], *text = NULL;
        cr_assert_eq(sscanf(files.gl_pathv[i], "model/data/%31[^/]/%63[^/]", kind, name), 2);
        name[strlen(name) - strlen(".json")] = '\0';
        size_t n = 0, size = 0;
        const char *built_in = data_find(kind, name, &n);
        cr_assert_not_null(built_in, "%s is not built in", files.gl_pathv[i]);
        FILE *f = fopen(files.gl_pathv[i], "r");
        cr_assert_gt(getdelim(&text, &size, EOF, f), 0);
        cr_assert_eq(ftell(f), (long)n, "%s", files.gl_pathv[i]);
        cr_assert_eq(memcmp(text, built_in, n), 0, "%s", files.gl_pathv[i]);
        fclose(f);
        free(text);
    }
    globfree(&files);
}

Test(hardware, built_in_names_are_listed)
{
    char names[200];
    size_t n;
    for (int i = 0; i < 5; i++)
        cr_assert_str_eq(data_name("hardware", i), presets[i]);
    cr_assert_null(data_name("hardware", 6));
    cr_assert_null(data_name("no such kind", 0));
    cr_assert_null(data_find("models", "t4-gcp", &n));
    cr_assert_str_eq(data_names("hardware", names, sizeof names), "a100-80gb, h200, l4, rtx3090, t4-flexgen, t4-gcp");
    cr_assert_str_eq(data_names("hardware", names, 5), "a100");
}

Test(hardware, the_machine_of_flexgen)
{
    struct hardware hw = preset("t4-gcp");
    const struct compute *gpu = &hw.compute[0], *cpu = &hw.compute[1];
    cr_assert_str_eq(hw.estimate, "mixed");
    cr_assert(hw.n_tiers == 3 && hw.n_computes == 2);
    cr_assert_eq(hw.tier[0].capacity_bytes, (int64_t)15 << 30);
    cr_assert_eq(hw.tier[2].capacity_bytes, 1500000000000);
    /* Table 24: dd on the local SSD. */
    cr_assert_eq(curve_at(&hw.link[1].read_bytes_per_s, 1e6), 1.6e9);
    cr_assert_eq(curve_at(&hw.link[1].write_bytes_per_s, 1e9), 1.3e9);
    /* 0.8 * 320 GB/s; one row does 2 FLOP for each 2-byte weight read: as many FLOP/s as bytes/s. */
    cr_assert_eq(gpu->memory_bytes_per_s, 0.8 * 320e9);
    cr_assert_eq(curve_at(&gpu->matmul[FORMAT_F16], 1), 256e9);
    near(curve_at(&gpu->matmul[FORMAT_F16], 32), 32 * 256e9);
    cr_assert_eq(curve_at(&gpu->matmul[FORMAT_F16], 4096), 21.24e12);
    /* FlexGen counts all s*s pairs, here half of them are visible. */
    cr_assert_eq(gpu->attention_prefill_flops_per_s, 9.97e12 / 2);
    cr_assert_eq(gpu->attention_decode_bytes_per_s[FORMAT_F16], 79e9);
    cr_assert_eq(cpu->attention_decode_bytes_per_s[FORMAT_F16], 12.3e9);
}

/* The rules that the sources of the profiles state, worked out again. */
Test(hardware, built_in_profiles_obey_their_own_rooflines)
{
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
        struct hardware hw = preset(presets[i]);
        const struct compute *gpu = &hw.compute[0], *cpu = &hw.compute[1];
        if (strcmp(hw.name, "t4-flexgen") == 0) /* fitted, not derived */
            continue;
        cr_assert(hw.n_tiers == 3 && hw.n_computes == 2, "%s", hw.name);
        cr_assert(gpu->activation == FORMAT_F16 && cpu->activation == FORMAT_F16 && strcmp(gpu->math, "f16") == 0, "%s", hw.name);
        double bandwidth = gpu->memory_bytes_per_s, plateau = curve_at(&gpu->matmul[FORMAT_F16], 1e6);
        for (double rows = 1; rows <= 4096; rows *= 2) {
            double f16 = fmin(rows * bandwidth, plateau);
            /* Unfused: 0.5625 bytes read and 2 written per weight, then the f16 product. */
            double q4 = 2 * rows / (2.5625 / bandwidth + 2 * rows / f16);
            cr_assert_leq(fabs(curve_at(&gpu->matmul[FORMAT_F16], rows) / f16 - 1), 1e-5, "%s, %.0f rows", hw.name, rows);
            cr_assert_leq(fabs(curve_at(&gpu->matmul[FORMAT_Q4], rows) / q4 - 1), 1e-5, "%s, %.0f rows", hw.name, rows);
        }
        double f16 = gpu->attention_decode_bytes_per_s[FORMAT_F16];
        double q4 = 0.5625 / (2.5625 / bandwidth + 2 / f16);
        cr_assert_leq(fabs(gpu->attention_decode_bytes_per_s[FORMAT_Q4] / q4 - 1), 1e-5, "%s", hw.name);
        cr_assert_eq(curve_at(&cpu->matmul[FORMAT_F16], 1), cpu->memory_bytes_per_s, "%s", hw.name);
    }
}

Test(hardware, an_unknown_machine_lists_the_known_ones)
{
    struct hardware hw;
    struct error unknown = {0}, absent = {0}, empty = {0};
    cr_assert_eq(hardware_load(&hw, "tpu", &unknown), STATUS_INVALID);
    cr_assert_str_eq(
        unknown.text,
        "tpu: expected a hardware file or a built-in profile (a100-80gb, h200, l4, rtx3090, t4-flexgen, t4-gcp), found neither");
    cr_assert_eq(hardware_load(&hw, "./t4-gcp", &absent), STATUS_RUNTIME, "a path is never a preset");
    cr_assert_eq(hardware_load(&hw, "", &empty), STATUS_RUNTIME);
}

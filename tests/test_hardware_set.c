/* test_hardware_set.c - the fields of a machine by name. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "model/hardware_set.h"
#include "tests/machine.h"

static struct hardware t4(void)
{
    struct hardware hw;
    struct error err = {0};
    cr_assert_eq(hardware_load(&hw, "t4-gcp", &err), STATUS_OK, "%s", err.text);
    return hw;
}

static void set(struct hardware *hw, const char *text)
{
    struct error err = {0};
    cr_assert_eq(hardware_set(hw, text, &err), STATUS_OK, "%s: %s", text, err.text);
}

static void refuse(const char *text, const char *complaint)
{
    struct hardware hw = t4(), before = hw;
    struct error err = {0};
    cr_assert_eq(hardware_set(&hw, text, &err), STATUS_INVALID, "%s was taken", text);
    cr_assert(strstr(err.text, complaint), "%s: no '%s' in: %s", text, complaint, err.text);
    cr_assert_eq(memcmp(&hw, &before, sizeof hw), 0, "%s changed the machine", text);
}

Test(hardware_set, sizes_and_times_are_set)
{
    struct hardware hw = t4();
    set(&hw, "gpu.capacity=24GiB");
    cr_assert_eq(hw.tier[0].capacity_bytes, 24LL << 30);
    set(&hw, "cpu->gpu.latency=25us");
    cr_assert_eq(hw.link[0].read_latency_s, 25e-6);
    set(&hw, "gpu->cpu.latency=0s");
    cr_assert_eq(hw.link[0].write_latency_s, 0);
    set(&hw, "gpu.launch=5 us");
    cr_assert_eq(hw.compute[0].launch_s, 5e-6);
    set(&hw, "cpu.workspace=0B");
    cr_assert_eq(hw.compute[1].workspace_bytes, 0);
}

Test(hardware_set, a_rate_is_the_highest_of_its_curve)
{
    /* f16 products: 256 GFLOP/s at one row, 21.24 TFLOP/s at most; 10.62 is half of it, so the first becomes 128. */
    struct hardware hw = t4();
    set(&hw, "gpu.matmul.f16=10.62TFLOP/s");
    cr_assert_float_eq(hw.compute[0].matmul[FORMAT_F16].y[0], 128e9, 1);
    cr_assert_float_eq(hw.compute[0].matmul[FORMAT_F16].y[2], 10.62e12, 1e3);
    cr_assert_eq(hw.compute[0].matmul[FORMAT_F32].y[0], 128e9); /* another format stays */
    /* directions are apart: read is lower -> upper */
    set(&hw, "disk->cpu.rate=2GB/s");
    cr_assert_float_eq(hw.link[1].read_bytes_per_s.y[0], 2e9, 1e-3);
    cr_assert_float_eq(hw.link[1].write_bytes_per_s.y[0], 1.3e9, 1e-3);
    set(&hw, "cpu->disk.rate=2x");
    cr_assert_float_eq(hw.link[1].write_bytes_per_s.y[0], 2.6e9, 1e-3);
    set(&hw, "cpu.attention_decode.q4=0.5x");
    cr_assert_float_eq(hw.compute[1].attention_decode_bytes_per_s[FORMAT_Q4], 3.45938e9 / 2, 1);
}

Test(hardware_set, every_field_is_found_by_its_name_and_keeps_what_is_put)
{
    struct hardware hw = t4();
    struct hardware_field field[HARDWARE_FIELDS_MAX], found;
    const int n = hardware_fields(&hw, field);
    /* 3 capacities, 4 directions of rate and latency; per unit 4 formats of products, 2 of caches and 4 numbers */
    cr_assert_eq(n, 3 + 8 + 2 * (4 + 2 + 4));
    for (int i = 0; i < n; i++) {
        char name[64];
        struct error err = {0};
        hardware_field_name(&hw, &field[i], name, sizeof name);
        cr_assert_eq(hardware_field_find(&hw, name, &found, &err), STATUS_OK, "%s", err.text);
        const double value = 3 * hardware_field_get(&hw, &field[i]);
        hardware_field_put(&hw, &found, value);
        cr_assert(fabs(hardware_field_get(&hw, &field[i]) - value) <= 1e-9 * value, "%s", name);
    }
}

Test(hardware_set, what_was_measured_is_so_no_longer)
{
    struct hardware hw = test_machine(2, "f32");
    snprintf(hw.estimate, sizeof hw.estimate, "measured");
    set(&hw, "disk->ram.rate=1x");
    cr_assert_str_eq(hw.estimate, "mixed");
}

Test(hardware_set, nonsense_is_refused)
{
    refuse("gpu.capacity", "expected FIELD=VALUE");
    refuse("gpu.size=1GiB", "expected a field of t4-gcp (gpu.capacity, cpu.capacity, disk.capacity, cpu->gpu.rate");
    refuse("ram.capacity=1GiB", "found 'ram.capacity'");
    refuse("gpu.capacity=24", "expected a size such as \"16 GiB\" or a factor such as \"2x\", found '24'");
    refuse("gpu.capacity=24GB/s", "expected a size");
    refuse("gpu.capacity=0GiB", "expected at least one byte");
    refuse("gpu.capacity=0.1B", "expected at least one byte");
    refuse("gpu.capacity=9PiB", "at most 8 PiB");
    refuse("gpu.capacity=-1x", "found '-1x'");
    refuse("cpu->gpu.rate=0x", "expected more than 0");
    refuse("cpu->gpu.rate=infx", "found 'infx'");
    refuse("gpu->disk.rate=1GB/s", "found 'gpu->disk.rate'");
    refuse("gpu.matmul=1TFLOP/s", "found 'gpu.matmul'");
    refuse("gpu.attention_decode.f32=1GB/s", "found 'gpu.attention_decode.f32'"); /* not measured */
    refuse("=1GiB", "found ''");
    refuse("", "expected FIELD=VALUE");
}

/* What planning OPT-175B on the T4 profile takes on one core: the whole search, one warm LP, one prediction; CPU time of this thread. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "model/placement.h"
#include "solver/point.h"
#include "solver/search.h"

#define PLANS       5
#define LPS         5000
#define PREDICTIONS 20000

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check(enum status status, const struct error *err)
{
    if (status != STATUS_OK) {
        fprintf(stderr, "bench_plan: %s\n", err->text);
        exit((int)status);
    }
}

int main(void)
{
    const struct workload w = {.prompt_tokens = 512, .gen_tokens = 32};
    struct arch a = {0};
    struct hardware hw;
    struct search_options o;
    struct plan plan;
    struct problem pr;
    struct error err = {0};
    struct rusage usage;
    double sum_tok_s = 0;
    check(arch_load(&a, "opt-175b", &err), &err);
    check(hardware_load(&hw, "t4-gcp", &err), &err);
    search_options_default(&o);
    o.realise = placement_realise;

    double start = cpu_s();
    for (int i = 0; i < PLANS; i++)
        check(search(&a, &hw, &w, &o, &plan, &err), &err);
    double plan_s = (cpu_s() - start) / PLANS;

    /* LPs of neighbouring sizes, each from the basis of the last, as the search solves them. */
    check(problem_new(&pr, &a, &hw, &w, &o, &err), &err);
    double lp_s = 0;
    for (int i = 0; i < LPS; i++) {
        struct point pt = {.policy = plan.policy};
        pt.policy.gpu_batch_size = 1 + i % 64;
        check(point_build(&pr, &pt, &err), &err);
        start = cpu_s();
        check(point_solve(&pr, &pt, &err), &err);
        lp_s += cpu_s() - start;
    }

    start = cpu_s();
    for (int i = 0; i < PREDICTIONS; i++) {
        struct cost c;
        struct prediction p;
        struct policy policy = plan.policy;
        policy.gpu_batch_size = 1 + i % 64;
        check(cost_build(&c, &a, &hw, &w, &policy, &err), &err);
        cost_predict(&c, policy.fraction, &p);
        sum_tok_s += p.throughput_tok_s;
    }
    double predict_s = (cpu_s() - start) / PREDICTIONS;

    getrusage(RUSAGE_SELF, &usage);
    fprintf(stderr, "bench: mean predicted throughput %.6g tok/s\n", sum_tok_s / PREDICTIONS);
    printf("plan_s,lps,points,boxes,gap_percent,lp_us,predictions_per_s,max_rss_mb\n");
    printf("%.4f,%lld,%lld,%lld,%.5f,%.2f,%.0f,%.1f\n", plan_s, (long long)plan.lps, (long long)plan.points,
           (long long)plan.boxes, 100 * (plan.bound_tok_s / plan.prediction.throughput_tok_s - 1), 1e6 * lp_s / LPS,
           1 / predict_s, (double)usage.ru_maxrss / 1024);
    problem_free(&pr);
    arch_free(&a);
    return 0;
}

/* arch.h - a model's architecture in the one layer form that cost, schedule and executor share.
 *
 * A model is a list of layers (facts/architectures.md section 1): an embedding, alternating mixers and MLPs, and a head cut
 * into vocabulary parts. Each layer is five numbers for the cost model and a list of tensors for the executor.
 */
#ifndef BALLAST_MODEL_ARCH_H
#define BALLAST_MODEL_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/error.h"
#include "model/format.h"

enum layer_kind { LAYER_EMBED, LAYER_ATTENTION, LAYER_MLP, LAYER_HEAD };
const char *layer_kind_name(enum layer_kind kind); /* "embed", "attention", "mlp", "head" */

enum tensor_role {
    ROLE_EMBED_TOKENS,    /* (vocab, embed_width); also the head when tied */
    ROLE_EMBED_POSITIONS, /* (max_positions + offset, hidden) */
    ROLE_PROJECT_IN,      /* (hidden, embed_width), OPT-350M only */
    ROLE_PROJECT_OUT,     /* (embed_width, hidden) */
    ROLE_Q,
    ROLE_K,
    ROLE_V,
    ROLE_O, /* (H*e, d), (G*e, d), (G*e, d), (d, H*e) */
    ROLE_Q_BIAS,
    ROLE_K_BIAS,
    ROLE_V_BIAS,
    ROLE_O_BIAS,
    ROLE_FC1,
    ROLE_FC2,
    ROLE_FC1_BIAS,
    ROLE_FC2_BIAS, /* (f, d), (d, f), (f), (d) */
    ROLE_NORM_GAIN,
    ROLE_NORM_BIAS, /* (d): the layer's own norm, or the final norm for the head */
    ROLE_COUNT
};

struct tensor {
    char name[96]; /* in the safetensors files, without the optional leading "model." */
    enum tensor_role role;
    int64_t rows, cols; /* stored shape (rows, cols); a vector is (1, n) */
    /* A placed matrix may be split over the tiers by rows. The others (vectors, position table, OPT-350M's projections) always
     * live on tier 0, converted to f32. */
    bool placed;
    int64_t row_begin, row_end; /* the rows this layer uses: a part of the table for a head part, else 0..rows */
};

/* Layer tensors: at most 6 placed or resident matrices and 10 vectors. */
#define LAYER_TENSORS_MAX 12

struct layer {
    enum layer_kind kind;
    int block; /* decoder block index for attention and MLP, part index for the head, 0 for the embedding */
    int n_tensors;
    struct tensor tensor[LAYER_TENSORS_MAX];
    /* Per token and sequence: F_dec(t) = a + b*min(t, W), F_pre(s) = a*s + b*T(s, W), state(t) = c + m*min(t, W) elements. */
    double a, b;
    int64_t window;                       /* W; 0 = infinite */
    int64_t state_const, state_per_token; /* c, m */
    int alike;                            /* layers that cost what this one does, if it is the first of them; 0 for the others */
};

enum activation { ACTIVATION_RELU, ACTIVATION_GELU };

struct arch {
    char name[64];   /* preset name or directory name */
    char family[16]; /* "opt" */
    int64_t hidden, heads, kv_heads, head_dim, ffn, blocks, vocab, max_positions;
    int64_t embed_width;     /* word_embed_proj_dim */
    int64_t position_offset; /* OPT: 2 extra rows */
    bool norm_before;        /* pre-norm; false: after the residual (OPT-350M) */
    bool final_norm, bias, tied;
    enum activation activation;
    double norm_epsilon;
    int64_t bos_token, eos_token, pad_token;
    enum format weight_format; /* as stored: F32, F16, BF16 */
    int n_layers;
    struct layer *layer; /* (n_layers) owned */
};

/* MODEL is a directory with config.json, a config file, or a preset name ("opt-1.3b"). */
enum status arch_load(struct arch *a, const char *model, struct error *err);
enum status arch_parse(struct arch *a, const char *path, const char *text, size_t n, struct error *err); /* a config.json */
void arch_free(struct arch *a); /* a zeroed struct is fine */
/* config.json text for a Hugging Face directory of this shape; malloc'ed, caller frees. */
char *arch_config_json(const struct arch *a);

int64_t arch_parameters(const struct arch *a);               /* a tied table counts once */
int64_t arch_cache_elements_per_token(const struct arch *a); /* sum of state_per_token */
int64_t layer_parameters(const struct layer *l);             /* of the rows the layer uses */
int layer_matrices(const struct layer *l);                   /* placed ones */
/* Bytes of the placed matrices of one layer with weights in `format`; and of its always-resident tensors (f32). */
int64_t layer_placed_bytes(const struct layer *l, enum format format);
int64_t layer_resident_bytes(const struct layer *l);
const struct tensor *layer_tensor(const struct layer *l, enum tensor_role role); /* NULL if it has none */
double layer_decode_flops(const struct layer *l, double t);   /* one token that attends to t of those it sees */
double layer_prefill_flops(const struct layer *l, int64_t s); /* one sequence; the head scores the last position only */
double visible_sum(int64_t s, int64_t window);                /* T(s, W); window 0 = infinite */
double visible_mean(int64_t s, int64_t n, int64_t window);    /* mean of min(t, W) over t = s+1 .. s+n; n >= 1 */
/* Whole model, as facts/worked_examples.csv counts them. */
double arch_decode_flops(const struct arch *a, int64_t t);
double arch_prefill_flops(const struct arch *a, int64_t s);

#endif

/* Passes of a plain Llama and sampling from it: float32, one core. Called by native.py, which says what for.

   Everything that is computed for a token is computed in the same order whatever else is in the batch, and
   whatever was remembered: results are equal to the last bit. Matrices are packed in panels of P columns.
   What comes from outside is held against its range before anything is read or written by it; see the codes below.
   Names as in llama.py: W width, H query heads, K key-value heads, D head size, I inner width, V vocabulary. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t i8 __attribute__((vector_size(32)));
#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define MIX(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define MIX(a, b, ...) __builtin_shuffle(a, b, (i8){__VA_ARGS__})
#endif

enum { DONE = 0, NO_MEMORY = -1, OUT_OF_RANGE = -2, NOT_FINITE = -3 }; /* what functions return; nothing was computed unless DONE */

#define P 32 /* columns of a panel */
#define BLOCK 120 /* rows that stay in the second-level cache between two products */
/* LANES: numbers of a register; what is wider, a compiler keeps in memory, at a twentieth of the speed. A product is made of tiles whose
   sums and factors are in registers all the time: R rows by NARROW registers, and of WIDE rows or fewer by a whole panel, where a narrow
   tile has too few sums to wait for none. TOGETHER: heads whose values are summed at once, for the same reason. */
#ifdef __AVX512F__
#define LANES 16
#define R 12
#define WIDE R
#define NARROW 2
#define TOGETHER 4
#elif defined(__AVX__)
#define LANES 8
#define R 6
#define WIDE 2
#define NARROW 2
#define TOGETHER 2
#else
#define LANES 4
#define NARROW 8
#define TOGETHER 2
#ifdef __aarch64__
#define R 3
#else
#define R 1
#endif
#define WIDE R
#endif
typedef float lane __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t lane_int __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define ACROSS (P / LANES) /* registers of a row of a panel */

typedef struct {
    const float *qkv, *out, *gate_up, *down;
} Layer;

typedef struct {
    int64_t width, depth, heads, kv_heads, size, inner, vocab, context;
    const float *embed; /* [V][W] */
    const float *norm; /* [W] */
    const float *turns; /* [context][cosines, sines][D / 2] */
    const float *head; /* packed */
    const Layer *layers;
    float eps;
} Model;

typedef struct {
    float *kv; /* [depth][keys, values][capacity][K D], by slot */
    int64_t capacity;
    float *own; /* [depth][keys, values][seats][room][K D]: of rows that are being sampled */
    int64_t seats, room;
} Memory;

typedef struct {
    const int64_t *path; /* slots of the tokens before and, unless seated, of this one */
    int64_t known; /* how many of them count */
    int64_t seat, mine; /* seat, and how many tokens of its own including this one; seat -1: none */
    int64_t write; /* slot for its keys and values; -1: they are known, or its own */
} Row;

typedef struct {
    float *x, *q, *h, *wide, *scores;
    const float **at; /* keys, then values, of the tokens that a row attends to */
} Work;

/* The instructions that this was built for, in a word. */
const char *instructions(void) {
#if defined(__AVX512F__)
    return "AVX512";
#elif defined(__AVX2__)
    return "AVX2";
#elif defined(__AVX__)
    return "AVX";
#else
    return "baseline";
#endif
}

static int64_t padded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* -- what comes from outside ------------------------------------------------------------------------- */

static int within(int64_t n, int64_t low, int64_t high) { return low <= n && n < high; }

static int all_within(int64_t n, const int64_t *numbers, int64_t low, int64_t high) {
    for (int64_t i = 0; i < n; i++)
        if (!within(numbers[i], low, high)) return 0;
    return 1;
}

#define MOST ((int64_t)1 << 31) /* of anything that is counted, so that products of two are no overflow */

static int sound(const Model *m) {
    return within(m->width, 1, MOST) && within(m->depth, 1, MOST) && within(m->heads, 1, MOST) && within(m->inner, 1, MOST) &&
           within(m->vocab, 1, MOST) && within(m->context, 1, MOST) && within(m->size, 8, 4096) && m->size % 8 == 0 &&
           within(m->kv_heads, 1, m->heads + 1) && m->heads % m->kv_heads == 0 && m->heads * m->size < MOST;
}

/* -- products ---------------------------------------------------------------------------------------- */

/* w [out][in], each column times scale (or 1): packed [out / P][in][P], the rest 0. */
void pack(const float *w, int64_t out, int64_t in, const float *scale, float *packed) {
    for (int64_t p = 0; p < out; p += P, packed += in * P)
        for (int64_t c = 0; c < P; c++)
            for (int64_t k = 0; k < in; k++)
                packed[k * P + c] = p + c < out ? w[(p + c) * in + k] * (scale ? scale[k] : 1.0f) : 0.0f;
}

/* Panels of 16 gates and the 16 entries of up that they multiply. */
void pack_gated(const float *gate, const float *up, int64_t out, int64_t in, const float *scale, float *packed) {
    for (int64_t p = 0; p < out; p += 16, packed += in * P)
        for (int64_t c = 0; c < P; c++)
            for (int64_t k = 0; k < in; k++) {
                int64_t column = p + c % 16;
                packed[k * P + c] = column < out ? (c < 16 ? gate : up)[column * in + k] * scale[k] : 0.0f;
            }
}

INLINE lane either(lane_int is, lane a, lane b) {
    return (lane)((is & (lane_int)a) | (~is & (lane_int)b));
}

/* e^x to two units in the last place; x is held within what float32 can hold. Coefficients: Cephes, expf. */
INLINE lane exponential(lane x) {
    const lane most = (lane){} + 88.0f, least = (lane){} - 87.0f;
    x = either(x > most, most, x);
    x = either(x < least, least, x);
    lane t = x * 1.44269504f + 12582912.0f, n = t - 12582912.0f; /* rounds to the nearest integer */
    lane r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    lane y = (lane){} + 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    return (lane)((lane_int)y + ((lane_int)t << 23));
}

enum { SET, ADD, GATE };

/* y = x w, y += x w, or y = silu(x gate) (x up): ``rows`` rows by ``across`` registers of a panel. Half of them are up in the last case. */
INLINE void tile(const int rows, const int across, const int how, const float *x, int64_t ldx, const float *w, int64_t in, float *y,
                 int64_t ldy) {
    const int half = across / 2;
    lane a[R][ACROSS];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < across; c++) a[r][c] = (lane){};
    for (int64_t k = 0; k < in; k++, w += P) {
        lane b[ACROSS];
#pragma GCC unroll 8
        for (int c = 0; c < across; c++) b[c] = *(const lane *)(w + (how == GATE ? c % half * LANES + c / half * (P / 2) : c * LANES));
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            float s = x[r * ldx + k];
#pragma GCC unroll 8
            for (int c = 0; c < across; c++) a[r][c] += s * b[c];
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++, y += ldy) {
        if (how == GATE) {
#pragma GCC unroll 4
            for (int c = 0; c < half; c++)
                *(lane *)(y + c * LANES) = a[r][c] / (1.0f + exponential(-a[r][c])) * a[r][c + half];
        } else {
#pragma GCC unroll 8
            for (int c = 0; c < across; c++) {
                if (how == ADD) a[r][c] += *(lane *)(y + c * LANES);
                *(lane *)(y + c * LANES) = a[r][c];
            }
        }
    }
}

/* The same for all of a panel. */
INLINE void stripe(const int rows, const int how, const float *x, int64_t ldx, const float *w, int64_t in, float *y, int64_t ldy) {
    const int across = rows > WIDE ? NARROW : ACROSS, whole = how == GATE ? P / 2 : P, columns = across * LANES * whole / P;
    for (int c = 0; c < whole; c += columns) tile(rows, across, how, x, ldx, w + c, in, y + c, ldy);
}

INLINE void product(const int how, int64_t n, const float *x, int64_t ldx, const float *w, int64_t in, int64_t out, float *y, int64_t ldy) {
    for (int64_t p = 0; p < out; p += how == GATE ? 16 : P, w += in * P)
        for (int64_t r = 0; r < n; r += R) {
            const float *from = x + r * ldx;
            float *to = y + r * ldy + p;
            switch (n - r) {
#define CASE(rows) case rows: stripe(rows, how, from, ldx, w, in, to, ldy); break;
#if R > 6
                CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11)
#endif
#if R > 3
                CASE(3) CASE(4) CASE(5)
#endif
#if R > 1
                CASE(1) CASE(2)
#endif
                default: stripe(R, how, from, ldx, w, in, to, ldy);
            }
        }
}

/* -- attention --------------------------------------------------------------------------------------- */

INLINE float total8(v8 a) {
    return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}

/* Of 16 sums, in one register or two. */
INLINE float total16(const lane *a) {
    return total8(*(const v8 *)a + *((const v8 *)a + 1));
}

/* total8 of each of eight vectors. */
INLINE v8 totals(v8 *a) {
    for (int i = 0; i < 4; i++) a[i] = MIX(a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11) + MIX(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    for (int i = 0; i < 2; i++) a[i] = MIX(a[i], a[i + 2], 0, 1, 8, 9, 4, 5, 12, 13) + MIX(a[i], a[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    return MIX(a[0], a[1], 0, 8, 2, 10, 4, 12, 6, 14) + MIX(a[0], a[1], 1, 9, 3, 11, 5, 13, 7, 15);
}

INLINE float highest(lane a) {
    float most = a[0];
    for (int i = 1; i < LANES; i++) most = a[i] > most ? a[i] : most;
    return most;
}

/* o = the sum over t of s[t] values[t], times scale, of ``many`` heads that lie beside each other in s [heads][S]. */
INLINE void mix(const int64_t D, const int many, int64_t T, int64_t S, const float *s, const float *const *at, const int64_t *part,
                const float *scale, float *o) {
    lane a[many][D / LANES];
    v8 rest[many]; /* where LANES is 16 */
    for (int h = 0; h < many; h++) {
        rest[h] = (v8){};
        for (int64_t d = 0; d < D / LANES; d++) a[h][d] = (lane){};
    }
    for (int64_t t = 0; t < T; t++)
        for (int h = 0; h < many; h++) {
            const float *v = at[t] + part[h], p = s[h * S + t];
            for (int64_t d = 0; d < D / LANES; d++) a[h][d] += p * *(const lane *)(v + LANES * d);
            if (D % LANES) rest[h] += p * *(const v8 *)(v + D - 8);
        }
    for (int h = 0; h < many; h++) {
        for (int64_t d = 0; d < D / LANES; d++) *(lane *)(o + h * D + LANES * d) = a[h][d] * scale[h];
        if (D % LANES) *(v8 *)(o + h * D + D - 8) = rest[h] * scale[h];
    }
}

INLINE void attend_of(const int64_t D, const Model *m, const Memory *memory, int64_t depth, const Row *row, const float *q,
                      const Work *work, float *o) {
    const int64_t width = m->kv_heads * D, group = m->heads / m->kv_heads, T = row->known + row->mine, S = padded(T, 16);
    const int64_t all = memory->seats * memory->room, known = memory->capacity * width, own = all * width;
    const float *keys = memory->kv + 2 * depth * known;
    const float *mine = row->mine ? memory->own + 2 * depth * own + row->seat * memory->room * width : 0;
    const float **at = work->at;
    float *s = work->scores;
    for (int64_t t = 0; t < row->known; t++) at[t] = keys + row->path[t] * width;
    for (int64_t t = row->known; t < T; t++) at[t] = mine + (t - row->known) * width;
    for (int64_t t = T; t < padded(T, 8); t++) at[t] = at[T - 1];
    for (int64_t t = 0; t < T; t += 8)
        for (int64_t h = 0; h < m->heads; h++) {
            const float *a = q + h * D;
            const int64_t part = h / group * D;
            v8 sums[8];
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                sums[i] = (v8){};
                for (int64_t d = 0; d < D; d += 8) sums[i] += *(const v8 *)(a + d) * *(const v8 *)(at[t + i] + part + d);
            }
            *(v8 *)(s + h * S + t) = totals(sums);
        }
    for (int64_t t = 0; t < row->known; t++) at[t] += known;
    for (int64_t t = row->known; t < T; t++) at[t] += own;
    float scale[TOGETHER];
    int64_t part[TOGETHER];
    for (int64_t first = 0; first < m->heads; first += TOGETHER, s += TOGETHER * S, o += TOGETHER * D) {
        const int many = m->heads - first < TOGETHER ? (int)(m->heads - first) : TOGETHER;
        for (int h = 0; h < many; h++) {
            float *own_s = s + h * S;
            for (int64_t t = T; t < S; t++) own_s[t] = -INFINITY;
            lane high = *(lane *)own_s, sums[16 / LANES] = {};
            for (int64_t t = LANES; t < S; t += LANES) high = either(*(lane *)(own_s + t) > high, *(lane *)(own_s + t), high);
            const float most = highest(high);
            for (int64_t t = 0; t < S; t += 16)
                for (int c = 0; c < 16 / LANES; c++) sums[c] += *(lane *)(own_s + t + c * LANES) = exponential(*(lane *)(own_s + t + c * LANES) - most);
            scale[h] = 1.0f / total16(sums);
            part[h] = (first + h) / group * D;
        }
        if (many == TOGETHER) mix(D, TOGETHER, T, S, s, at, part, scale, o);
        else
            for (int h = 0; h < many; h++) mix(D, 1, T, S, s + h * S, at, part + h, scale + h, o + h * D);
    }
}

static void attend(const Model *m, const Memory *memory, int64_t depth, const Row *row, const float *q, const Work *work, float *o) {
    switch (m->size) {
        case 16: attend_of(16, m, memory, depth, row, q, work, o); break;
        case 24: attend_of(24, m, memory, depth, row, q, work, o); break;
        case 32: attend_of(32, m, memory, depth, row, q, work, o); break;
        case 64: attend_of(64, m, memory, depth, row, q, work, o); break;
        default: attend_of(m->size, m, memory, depth, row, q, work, o);
    }
}

/* -- one pass ---------------------------------------------------------------------------------------- */

/* y = x / rms(x), times ``by`` where given. */
static void rms(const Model *m, const float *x, const float *by, float *y) {
    lane squares[16 / LANES] = {};
    for (int64_t d = 0; d < m->width; d += 16) /* padded by 0 */
        for (int c = 0; c < 16 / LANES; c++) squares[c] += *(const lane *)(x + d + c * LANES) * *(const lane *)(x + d + c * LANES);
    const float scale = 1.0f / sqrtf(total16(squares) / m->width + m->eps);
    for (int64_t d = 0; d < m->width; d++) y[d] = x[d] * scale * (by ? by[d] : 1.0f);
}

static void turn(const float *x, int64_t heads, int64_t D, const float *turns, float scale, float *y) {
    const float *c = turns, *s = turns + D / 2;
    for (int64_t h = 0; h < heads; h++, x += D, y += D)
        for (int64_t d = 0; d < D / 2; d++) {
            float a = x[d], b = x[d + D / 2];
            y[d] = (a * c[d] - b * s[d]) * scale;
            y[d + D / 2] = (b * c[d] + a * s[d]) * scale;
        }
}

static int64_t widest(const Model *m) {
    int64_t a = padded((m->heads + 2 * m->kv_heads) * m->size, P), b = padded(m->inner, 16);
    return a > b ? a : b;
}

static int reserve(Work *k, const Model *m, int64_t n, int64_t longest) {
    const int64_t x = padded(m->width, P), q = padded(m->heads * m->size, P);
    k->x = calloc(n * x, 4); /* the padding stays 0 */
    k->q = malloc(n * q * 4);
    k->h = malloc(BLOCK * (x > q ? x : q) * 4);
    k->wide = malloc(BLOCK * widest(m) * 4);
    k->scores = malloc(m->heads * padded(longest, 16) * 4);
    k->at = malloc(padded(longest, 8) * sizeof(float *));
    return k->x && k->q && k->h && k->wide && k->scores && k->at;
}

static void release(Work *k) {
    free(k->x), free(k->q), free(k->h), free(k->wide), free(k->scores), free(k->at);
}

/* Final hidden states of the tokens ``asked`` (ascending; all where it is 0) in the first rows of work->x. */
static void forward(const Model *m, const Memory *memory, const Work *work, int64_t n, const int64_t *token,
                    const int64_t *position, const Row *rows, int64_t n_asked, const int64_t *asked) {
    const int64_t W = m->width, D = m->size, HD = m->heads * D, KD = m->kv_heads * D;
    const int64_t X = padded(W, P), Q = padded(HD, P), wide = widest(m), I = padded(m->inner, 16);
    const float scale = 1.0f / sqrtf((float)D);
    float *x = work->x, *q = work->q, *h = work->h;
    for (int64_t i = 0; i < n; i++) memcpy(x + i * X, m->embed + token[i] * W, W * 4);
    for (int64_t depth = 0; depth < m->depth; depth++) {
        const Layer *layer = m->layers + depth;
        for (int64_t at = 0; at < n; at += BLOCK) {
            const int64_t many = n - at < BLOCK ? n - at : BLOCK;
            for (int64_t i = 0; i < many; i++) rms(m, x + (at + i) * X, 0, h + i * X);
            product(SET, many, h, X, layer->qkv, W, HD + 2 * KD, work->wide, wide);
            for (int64_t i = at; i < at + many; i++) {
                const float *qkv = work->wide + (i - at) * wide, *turns = m->turns + position[i] * D;
                const Row *row = rows + i;
                turn(qkv, m->heads, D, turns, scale, q + i * Q);
                float *keys, *values;
                if (row->seat >= 0) {
                    const int64_t all = memory->seats * memory->room;
                    keys = memory->own + (2 * depth * all + row->seat * memory->room + row->mine - 1) * KD;
                    values = keys + all * KD;
                } else if (row->write >= 0) {
                    keys = memory->kv + (2 * depth * memory->capacity + row->write) * KD;
                    values = keys + memory->capacity * KD;
                } else continue;
                turn(qkv + HD, m->kv_heads, D, turns, 1.0f, keys);
                memcpy(values, qkv + HD + KD, KD * 4);
            }
        }
        const int64_t *only = depth == m->depth - 1 ? asked : 0;
        if (only) {
            for (int64_t i = 0; i < n_asked; i++) {
                memmove(x + i * X, x + only[i] * X, X * 4);
                memmove(q + i * Q, q + only[i] * Q, Q * 4);
            }
            n = n_asked;
        }
        for (int64_t at = 0; at < n; at += BLOCK) {
            const int64_t many = n - at < BLOCK ? n - at : BLOCK;
            for (int64_t i = at; i < at + many; i++)
                attend(m, memory, depth, rows + (only ? only[i] : i), q + i * Q, work, h + (i - at) * Q);
            product(ADD, many, h, Q, layer->out, HD, W, x + at * X, X);
            for (int64_t i = 0; i < many; i++) rms(m, x + (at + i) * X, 0, h + i * X);
            product(GATE, many, h, X, layer->gate_up, W, m->inner, work->wide, I);
            product(ADD, many, work->wide, I, layer->down, m->inner, W, x + at * X, X);
        }
    }
    for (int64_t i = 0; i < n; i++) rms(m, x + i * X, m->norm, x + i * X);
}

/* Read ``n`` tokens. paths [n_paths]: slots one row after the other; those of token i begin at begin[i] and it is number
   position[i] of them. Keys and values of the first ``fresh`` tokens go to their slots, hidden states of those asked
   for to hidden [slots][W]. */
int run(const Model *m, const Memory *memory, int64_t n, int64_t fresh, const int64_t *token, const int64_t *position,
        const int64_t *slot, const int64_t *begin, const int64_t *paths, int64_t n_paths, int64_t n_asked, const int64_t *asked,
        float *hidden) {
    int64_t longest = 1;
    if (!sound(m) || !within(n, 0, MOST) || !within(fresh, 0, n + 1) || !within(n_asked, 0, n + 1) || !within(n_paths, 0, MOST) ||
        !within(memory->capacity, 1, MOST) || !all_within(n, token, 0, m->vocab) || !all_within(n, position, 0, m->context) ||
        !all_within(n, slot, 0, memory->capacity) || !all_within(n_paths, paths, 0, memory->capacity))
        return OUT_OF_RANGE;
    for (int64_t i = 0; i < n; i++)
        if (!within(begin[i], 0, n_paths) || position[i] >= n_paths - begin[i]) return OUT_OF_RANGE;
    for (int64_t i = 0; i < n_asked; i++) /* ascending: rows move to the front */
        if (!within(asked[i], i ? asked[i - 1] + 1 : 0, n)) return OUT_OF_RANGE;
    if (!n) return DONE;
    Row *rows = malloc(n * sizeof(Row));
    if (!rows) return NO_MEMORY;
    for (int64_t i = 0; i < n; i++) {
        rows[i] = (Row){paths + begin[i], position[i] + 1, -1, 0, i < fresh ? slot[i] : -1};
        longest = position[i] + 1 > longest ? position[i] + 1 : longest;
    }
    Work work = {};
    const int there = reserve(&work, m, n, longest);
    if (there) {
        forward(m, memory, &work, n, token, position, rows, n_asked, asked);
        const int64_t X = padded(m->width, P);
        for (int64_t i = 0; i < n_asked; i++) memcpy(hidden + slot[asked[i]] * m->width, work.x + i * X, m->width * 4);
    }
    release(&work), free(rows);
    return there ? DONE : NO_MEMORY;
}

/* logits [n][V, padded to P by -infinity] after hidden states [n][W] */
int logits(const Model *m, int64_t n, const float *hidden, float *found) {
    if (!sound(m) || !within(n, 0, MOST)) return OUT_OF_RANGE;
    const int64_t V = padded(m->vocab, P);
    for (int64_t at = 0; at < n; at += BLOCK)
        product(SET, n - at < BLOCK ? n - at : BLOCK, hidden + at * m->width, m->width, m->head, m->width, m->vocab, found + at * V, V);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = m->vocab; j < V; j++) found[i * V + j] = -INFINITY;
    return DONE;
}

/* -- sampling ---------------------------------------------------------------------------------------- */

typedef struct {
    double p;
    int64_t token;
} Ranked;

static int likelier(const void *a, const void *b) {
    const Ranked *x = a, *y = b;
    return x->p != y->p ? (x->p < y->p ? 1 : -1) : (x->token < y->token ? -1 : 1);
}

/* Relative probabilities e^((l - most) / temperature) and their sum. */
static double weigh(const float *l, int64_t V, float most, float temperature, float *e) {
    double sum[4] = {};
    for (int64_t j = 0; j < padded(V, 16); j += LANES) {
        lane x = *(const lane *)(l + j) - most;
        *(lane *)(e + j) = exponential(x / temperature);
    }
    for (int64_t j = V; j < padded(V, 16); j++) e[j] = 0.0f;
    for (int64_t j = 0; j < padded(V, 4); j += 4)
        for (int64_t lane = 0; lane < 4; lane++) sum[lane] += e[j + lane];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Whether no logit is NaN or infinite. */
static int all_finite(const float *l, int64_t V) {
    lane zeros[16 / LANES] = {};
    int64_t j = 0;
    for (; j + 16 <= V; j += 16)
        for (int c = 0; c < 16 / LANES; c++) zeros[c] += *(const lane *)(l + j + c * LANES) - *(const lane *)(l + j + c * LANES);
    float rest = total16(zeros);
    for (; j < V; j++) rest += l[j] - l[j];
    return rest == 0.0f;
}

/* As common.lm.decode.choose: the token at ``u`` of the distribution function; greedy at temperature 0. l is padded by
   -infinity, e has room for as much. */
static int64_t choose(const float *l, int64_t V, double u, float temperature, double top_p, float *e, Ranked *ranked, double *logprob) {
    int64_t best = 0, chosen = V - 1;
    for (int64_t j = 1; j < V; j++) best = l[j] > l[best] ? j : best;
    const double sum = weigh(l, V, l[best], 1.0f, e);
    double mass = temperature == 1.0f || temperature == 0.0f ? sum : weigh(l, V, l[best], temperature, e), before = 0.0;
    if (top_p < 1.0) {
        for (int64_t j = 0; j < V; j++) ranked[j] = (Ranked){e[j], j};
        qsort(ranked, V, sizeof(Ranked), likelier);
        for (int64_t j = 0; j < V; j++) {
            if (before >= top_p * mass) e[ranked[j].token] = 0.0f;
            before += ranked[j].p;
        }
        mass = before = 0.0;
        for (int64_t j = 0; j < V; j++) mass += e[j];
    }
    if (temperature == 0.0f) {
        chosen = best;
    } else {
        for (int64_t j = 0; j < V; j++) {
            before += e[j];
            if (before > u * mass) {
                chosen = j;
                break;
            }
        }
    }
    *logprob = (double)(l[chosen] - l[best]) - log(sum);
    return chosen;
}

/* Sample ``n`` rows, memory->seats at a time: one that has ended gives its seat to the next. Row i continues the prompt
   with slots paths[begin[i]], … [length[i]] and logits first[owner[i]] [V, padded], of which there are n_first; its uniforms
   are uniform[i] [limit], in [0, 1). tokens[i] [limit] holds counts[i] of them, the last one ``end`` unless cut; logprobs[i] is
   the sum of theirs. Temperature is at least 0, top_p above 0 and at most 1, limit at least 1, and rows with their answers fit the
   context. Ends early once *stop is not 0, which another thread may write; NOT_FINITE leaves what was sampled before. */
int sample(const Model *m, const Memory *memory, int64_t n, const int64_t *owner, const int64_t *begin, const int64_t *length,
           const int64_t *paths, int64_t n_paths, const float *first, int64_t n_first, int64_t limit, const double *uniform,
           float temperature, double top_p, int64_t end, int64_t *tokens, int64_t *counts, double *logprobs,
           const volatile int64_t *stop) {
    if (!sound(m) || !within(n, 0, MOST) || !within(n_paths, 0, MOST) || !within(n_first, 0, MOST) || !within(limit, 1, m->context) ||
        !within(memory->capacity, 1, MOST) || !within(memory->seats, 1, MOST) || !within(memory->room, limit > 1 ? limit - 1 : 1, MOST) ||
        !(temperature >= 0.0f && temperature < INFINITY) || !(top_p > 0.0 && top_p <= 1.0) ||
        !all_within(n, owner, 0, n_first) || !all_within(n_paths, paths, 0, memory->capacity))
        return OUT_OF_RANGE;
    for (int64_t i = 0; i < n; i++)
        if (!within(begin[i], 0, n_paths) || !within(length[i], 1, n_paths - begin[i] + 1) || length[i] > m->context - limit)
            return OUT_OF_RANGE;
    for (int64_t i = 0; i < n * limit; i++)
        if (!(uniform[i] >= 0.0 && uniform[i] < 1.0)) return OUT_OF_RANGE;
    const int64_t seats = memory->seats, VP = padded(m->vocab, P), X = padded(m->width, P);
    int64_t longest = 1, next = 0, active = 0, spare = seats;
    int code = DONE;
    for (int64_t i = 0; i < n; i++) longest = length[i] + limit > longest ? length[i] + limit : longest;
    Row *rows = malloc(seats * sizeof(Row));
    int64_t *who = malloc(seats * 8), *token = malloc(seats * 8), *position = malloc(seats * 8), *empty = malloc(seats * 8);
    Ranked *ranked = malloc(m->vocab * sizeof(Ranked));
    float *l = malloc(seats * VP * 4), *e = malloc(VP * 4), *hidden = malloc(seats * m->width * 4);
    Work work = {};
    const int there = reserve(&work, m, seats, longest) && rows && who && token && position && empty && ranked && l && e && hidden;
    for (int64_t seat = 0; there && seat < seats; seat++) empty[seat] = seats - 1 - seat;
    while (there && code == DONE && !*stop) {
        int64_t going = 0; /* rows 0 … active - 1 have logits in l; those that go on move to the front */
        for (int64_t at = 0; at < active || (spare && next < n); at++) {
            const int old = at < active;
            const int64_t i = old ? who[at] : next++;
            Row row = old ? rows[at] : (Row){paths + begin[i], length[i], -1, 0, -1};
            if (!old) counts[i] = 0, logprobs[i] = 0.0;
            double gained;
            const float *own = old ? l + at * VP : first + owner[i] * VP;
            if (!all_finite(own, m->vocab)) {
                code = NOT_FINITE;
                break;
            }
            const int64_t chosen = choose(own, m->vocab, uniform[i * limit + counts[i]],
                                          temperature, top_p, e, ranked, &gained);
            tokens[i * limit + counts[i]++] = chosen, logprobs[i] += gained;
            if (chosen == end || counts[i] == limit) {
                if (old) empty[spare++] = row.seat;
                continue;
            }
            if (!old) row.seat = empty[--spare];
            row.mine = counts[i];
            who[going] = i, rows[going] = row, token[going] = chosen, position[going] = row.known + row.mine - 1;
            going++;
        }
        active = going;
        if (!active || code != DONE) break;
        forward(m, memory, &work, active, token, position, rows, 0, 0);
        for (int64_t i = 0; i < active; i++) memcpy(hidden + i * m->width, work.x + i * X, m->width * 4);
        logits(m, active, hidden, l);
    }
    release(&work);
    free(rows), free(who), free(token), free(position), free(empty), free(ranked), free(l), free(e), free(hidden);
    return there ? code : NO_MEMORY;
}

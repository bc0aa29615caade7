#include "executor/backend.h"

enum status lane_copy(const struct lane *l, void *dst, const void *src, int64_t bytes, struct error *err)
{
    return l->backend->copy(l->unit, l->queue, dst, src, 1, bytes, bytes, err);
}

enum status lane_copy_pageable(const struct lane *l, void *dst, const void *src, int64_t bytes, struct error *err)
{
    return l->backend->copy_pageable(l->unit, l->queue, dst, src, bytes, err);
}

enum status lane_wait(const struct lane *l, struct error *err)
{
    enum status s = l->backend->mark(l->unit, l->queue, 0, err);
    return s == STATUS_OK ? l->backend->wait(l->unit, l->queue, 0, err) : s;
}

enum status lane_copy_now(const struct lane *l, void *dst, const void *src, int64_t bytes, struct error *err)
{
    enum status s = lane_copy(l, dst, src, bytes, err);
    return s == STATUS_OK ? lane_wait(l, err) : s;
}

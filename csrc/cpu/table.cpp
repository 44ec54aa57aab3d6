// SPDX-License-Identifier: Apache-2.0
// What the backend needs to know of one instruction set and real type: the kernels in the order of their enum, and the
// names of the formulas in math/.
#include "../math/activations.h"
#include "../math/losses.h"
#include "../math/update_rules.h"
#include "gemm/tile.h"
#include "kernels.h"

DLCORE_BEGIN

#define DLCORE_FORMULA(name) {#name, activations::name::from_output},
static const Formula activation_list[] = {DLCORE_ACTIVATIONS(DLCORE_FORMULA)};
#undef DLCORE_FORMULA
#define DLCORE_FORMULA(name) {#name, rules::name::states},
static const Formula rule_list[] = {DLCORE_RULES(DLCORE_FORMULA)};
#undef DLCORE_FORMULA
#define DLCORE_FORMULA(name) {#name, 0},
static const Formula loss_list[] = {DLCORE_LOSSES(DLCORE_FORMULA)};
#undef DLCORE_FORMULA

template <int32_t n>
static constexpr int32_t length(const Formula (&)[n]) {
  return n;
}

#define DLCORE_TEXT(name) #name
#define DLCORE_NAME(name) DLCORE_TEXT(name)
extern const Traits traits = {DLCORE_NAME(DLCORE_ISA),
                              DLCORE_REAL_F64 ? DType::f64 : DType::f32,
                              int32_t(LANES),
                              int32_t(STRIP),
                              activation_list,
                              rule_list,
                              loss_list,
                              length(activation_list),
                              length(rule_list),
                              length(loss_list),
#if DLCORE_UNIT_AMX
                              "amx"
#elif DLCORE_UNIT
                              "stand-in"
#else
                              nullptr
#endif
                              ,
                              Layout::planes};

extern const KernelEntry* const kernel_table[] = {&product_entry,
                                                  &pointwise_entry,
                                                  &pack_entry,
                                                  &gather_entry,
                                                  &gather_index_entry,
                                                  &moments_finish_entry,
                                                  &norm_backward_finish_entry,
                                                  &layer_norm_entry,
                                                  &layer_norm_backward_entry,
                                                  &softmax_cross_entropy_entry,
                                                  &loss_entry,
                                                  &grad_scale_entry,
                                                  &update_entry,
                                                  &tick_entry,
                                                  &softmax_entry};
static_assert(sizeof(kernel_table) / sizeof(kernel_table[0]) == int(Kernel::count), "");

DLCORE_END

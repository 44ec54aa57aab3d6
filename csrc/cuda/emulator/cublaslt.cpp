// SPDX-License-Identifier: Apache-2.0
// A stand-in for cuBLASLt: sums in order of the depth, put on the stream as one thread. It refuses what the library
// does, and writes over the workspace that it is given.
#include "../gemm/cublaslt.h"

#include <cmath>
#include <cstring>
#include <functional>

#include "runtime.h"

namespace dlcore {
namespace emulator {

bool has_library = true;

namespace {

constexpr int INVALID = 7, UNSUPPORTED = 15;  // CUBLAS_STATUS_INVALID_VALUE, ..._NOT_SUPPORTED

struct Product {
  int32_t transposed[2];
};
struct Layout {
  int64_t rows, cols, ld;  // columns follow one another
};
struct Preference {
  size_t workspace;
  uint32_t alignment[4];
};

int create(void** handle) {
  *handle = new int(0);
  return 0;
}

int make_product(void** product, int compute, int scale) {
  if (compute != LT_COMPUTE_32F || scale != LT_R_32F) return UNSUPPORTED;
  *product = new Product{};
  return 0;
}

int set_product(void* product, int attribute, const void* value, size_t bytes) {
  if (bytes != sizeof(int32_t) || attribute < LT_DESC_TRANSA || attribute > LT_DESC_TRANSB) return INVALID;
  std::memcpy(&static_cast<Product*>(product)->transposed[attribute - LT_DESC_TRANSA], value, bytes);
  return 0;
}

int make_layout(void** layout, int type, uint64_t rows, uint64_t cols, int64_t ld) {
  if (type != LT_R_32F || rows == 0 || cols == 0 || ld < int64_t(rows)) return INVALID;
  *layout = new Layout{int64_t(rows), int64_t(cols), ld};
  return 0;
}

int make_preference(void** preference) {
  *preference = new Preference{};
  return 0;
}

int set_preference(void* preference, int attribute, const void* value, size_t bytes) {
  Preference& p = *static_cast<Preference*>(preference);
  const bool workspace = attribute == LT_PREF_WORKSPACE;
  const int operand = attribute - LT_PREF_ALIGNMENT_A;
  if (bytes != (workspace ? sizeof p.workspace : sizeof(uint32_t))) return INVALID;
  if (!workspace && (operand < 0 || operand > 3)) return INVALID;
  void* to = workspace ? static_cast<void*>(&p.workspace) : &p.alignment[operand];
  std::memcpy(to, value, bytes);
  return 0;
}

int drop_preference(void* preference) {
  delete static_cast<Preference*>(preference);
  return 0;
}

// Rows and columns of op(x).
Layout shape(const Product& product, int operand, const Layout& x) {
  return product.transposed[operand] == LT_OP_T ? Layout{x.cols, x.rows, x.ld} : x;
}

bool fits(const Product& product, const Layout& a, const Layout& b, const Layout& d) {
  const Layout left = shape(product, 0, a), right = shape(product, 1, b);
  return left.cols == right.rows && left.rows == d.rows && right.cols == d.cols;
}

// The choice remembers the alignment that it was made for, and its workspace.
int choose(void*, void* product, void* a, void* b, void*, void* d, void* preference, int wanted, LtChoice* found,
           int* count) {
  const Preference& p = *static_cast<Preference*>(preference);
  const Layout &left = *static_cast<Layout*>(a), &right = *static_cast<Layout*>(b), &out = *static_cast<Layout*>(d);
  if (wanted < 1 || !fits(*static_cast<Product*>(product), left, right, out)) return INVALID;
  *found = {{{p.alignment[0], p.alignment[3], p.workspace}}, p.workspace, 0, 1.0f, {}};
  *count = 1;
  return 0;
}

bool aligned(const void* at, int64_t ld, uint64_t bytes) {
  return (reinterpret_cast<uintptr_t>(at) | uint64_t(ld) * sizeof(float)) % bytes == 0;
}

int multiply(void*, void* product, const void* alpha, const void* a, void* a_layout, const void* b, void* b_layout,
             const void* beta, const void* c, void*, void* d, void* d_layout, const LtAlgorithm* algorithm,
             void* workspace, size_t bytes, void* stream) {
  const Product p = *static_cast<Product*>(product);
  const Layout la = *static_cast<Layout*>(a_layout), lb = *static_cast<Layout*>(b_layout);
  const Layout ld = *static_cast<Layout*>(d_layout);
  const bool plain = *static_cast<const float*>(alpha) == 1 && *static_cast<const float*>(beta) == 0 && c == d;
  if (!plain || !fits(p, la, lb, ld) || bytes < algorithm->data[2] || !aligned(workspace, 0, 256)) return INVALID;
  if (!aligned(a, la.ld, algorithm->data[0]) || !aligned(b, lb.ld, algorithm->data[0])) return INVALID;
  if (!aligned(d, ld.ld, algorithm->data[1])) return INVALID;
  std::function<void()> thread = [=] {
    std::memset(workspace, 0xff, bytes);
    const int64_t depth = shape(p, 0, la).cols;
    const int64_t down = p.transposed[0] ? la.ld : 1, along = p.transposed[0] ? 1 : la.ld;
    const int64_t deep = p.transposed[1] ? lb.ld : 1, across = p.transposed[1] ? 1 : lb.ld;
    for (int64_t col = 0; col < ld.cols; ++col) {
      for (int64_t row = 0; row < ld.rows; ++row) {
        const float *x = static_cast<const float*>(a) + row * down, *y = static_cast<const float*>(b) + col * across;
        float sum = 0;
        for (int64_t k = 0; k < depth; ++k) sum = std::fma(x[k * along], y[k * deep], sum);
        static_cast<float*>(d)[row + col * ld.ld] = sum;
      }
    }
  };
  void* arguments[] = {&thread};
  return cudaLaunchKernel(nullptr, {1, 1, 1}, {1, 1, 1}, arguments, 0, static_cast<cudaStream_t>(stream));
}

constexpr LtLibrary stand_in = {create,         make_product,    set_product, make_layout, make_preference,
                                set_preference, drop_preference, choose,      multiply};

}  // namespace

const LtLibrary* lt_library() { return has_library ? &stand_in : nullptr; }

}  // namespace emulator
}  // namespace dlcore

// SPDX-License-Identifier: Apache-2.0
// C (m, n) = A B, A B^T or A^T B in float32 by cuBLASLt, then its chain. For those who ask for it by name: bits are the
// library's own.
//
// A chain that only stores is the library's output; else C goes to scratch as the one split of a product would, and the
// sum of the splits runs the chain. The library takes addresses, so what it does is prepared when they are known:
// its choice for a shape is made once, outside of any capture, and tried, as it loads its kernels then.
#include "cublaslt.h"

#ifdef DLCORE_EMULATOR
#include "../emulator/runtime.h"
#else
#include <dlfcn.h>
#endif

#include <array>
#include <map>
#include <mutex>
#include <type_traits>

#include "../../check.h"
#include "splits.cuh"

DLCORE_BEGIN

constexpr int64_t LT_ALIGN = 256;  // bytes, of the workspace
constexpr int LT_VECTOR = 16;      // bytes of the library's loads, where operands are aligned to them

#ifdef DLCORE_EMULATOR
constexpr int64_t LT_WORKSPACE = 1 << 20;  // bytes; tests write and compare all of it

static const LtLibrary* opened() { return emulator::lt_library(); }
#else
constexpr int64_t LT_WORKSPACE = 32 << 20;  // bytes, what the library recommends on sm_90

static const LtLibrary* opened() {
  static std::mutex mutex;
  static LtLibrary library = {};
  const std::lock_guard<std::mutex> lock(mutex);
  if (library.create != nullptr) return &library;
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"}) {
    void* file = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (file == nullptr) continue;
    const auto find = [&](auto& function, const char* symbol) {
      function = reinterpret_cast<std::decay_t<decltype(function)> >(dlsym(file, symbol));
      return function != nullptr;
    };
    LtLibrary found = {};
    if (find(found.create, "cublasLtCreate") && find(found.make_product, "cublasLtMatmulDescCreate") &&
        find(found.set_product, "cublasLtMatmulDescSetAttribute") &&
        find(found.make_layout, "cublasLtMatrixLayoutCreate") &&
        find(found.make_preference, "cublasLtMatmulPreferenceCreate") &&
        find(found.set_preference, "cublasLtMatmulPreferenceSetAttribute") &&
        find(found.drop_preference, "cublasLtMatmulPreferenceDestroy") &&
        find(found.choose, "cublasLtMatmulAlgoGetHeuristic") && find(found.multiply, "cublasLtMatmul")) {
      library = found;
      return &library;
    }
  }
  return nullptr;
}
#endif

static void check(int status, const char* function) {
  if (status != 0) throw std::runtime_error(message("cublasLt", function, ": expected status 0, got ", status));
}

static const LtLibrary& library(const char* who) {
  const LtLibrary* found = opened();
  CHECK_ARG(found != nullptr, who, ": expected cuBLASLt for 'cublaslt', got no libcublasLt.so.13 or .12; ",
            "pip install nvidia-cublas, or 'simt' serves it");
  return *found;
}

static std::mutex& mutex() {
  static std::mutex the_mutex;
  return the_mutex;
}

// One for each stream, that is, for each device.
static void* handle_of(const LtLibrary& lt) {
  static std::map<uintptr_t, void*> handles;
  const std::lock_guard<std::mutex> lock(mutex());
  void*& handle = handles[device_stream()];
  if (handle == nullptr) check(lt.create(&handle), "Create");
  return handle;
}

void check_library(const char* who) { handle_of(library(who)); }

// What the library needs to know of a product, and its choice.
struct LtProduct {
  void *product, *a, *b, *c;
  LtAlgorithm algorithm;
};

// The addresses of one product: A, B, C (m, n), rows of ld elements, and the workspace.
struct Places {
  const real *a, *b;
  real* c;
  char* workspace;
  int64_t ld;
};

static bool only_stores(const Instruction& in) {
  return in.stage_count == 1 && in.chain[0].kind == StageKind::store && in.chain[0].out.layout == Layout::row_major;
}

static int64_t scratch(const Instruction& in) {
  const int64_t sums = only_stores(in) ? 0 : in.rows * partial_ld(in) * int64_t(sizeof(real));
  return chain_scratch(in) + sums + LT_WORKSPACE + LT_ALIGN;
}

static Places places(const Instruction& in, int64_t member) {
  const auto address = [&](const View& view) { return view.offset + member * view.member_stride; };
  const auto reals = [&](int64_t at) { return reinterpret_cast<real*>(intptr_t(at)); };
  const int64_t scratch = address(in.operands[in.operand_count]), sums = scratch + chain_scratch(in);
  const bool direct = only_stores(in);
  const int64_t end = direct ? sums : sums + in.rows * partial_ld(in) * int64_t(sizeof(real));
  return {reals(address(in.operands[0])), reals(address(in.operands[1])),
          reals(direct ? address(in.chain[0].out) : sums), reinterpret_cast<char*>(intptr_t(round_up(end, LT_ALIGN))),
          direct ? in.chain[0].out.ld : partial_ld(in)};
}

// Rows are the library's columns: C^T = B^T A^T, so the operands change places.
static void multiply(const LtLibrary& lt, const LtProduct& p, const Places& at) {
  const real one = 1, zero = 0;
  check(lt.multiply(handle_of(lt), p.product, &one, at.b, p.b, at.a, p.a, &zero, at.c, p.c, at.c, p.c, &p.algorithm,
                    at.workspace, size_t(LT_WORKSPACE), reinterpret_cast<void*>(device_stream())),
        "Matmul");
}

static LtProduct chosen(const LtLibrary& lt, const Instruction& in, int64_t ld, uint32_t alignment) {
  const View &a = in.operands[0], &b = in.operands[1];
  const auto layout = [&](int64_t rows, int64_t cols, int64_t row) {
    void* made = nullptr;
    check(lt.make_layout(&made, LT_R_32F, uint64_t(cols), uint64_t(rows), row), "MatrixLayoutCreate");
    return made;
  };
  LtProduct p = {nullptr, layout(a.rows, a.cols, a.ld), layout(b.rows, b.cols, b.ld), layout(in.rows, in.cols, ld), {}};
  check(lt.make_product(&p.product, LT_COMPUTE_32F, LT_R_32F), "MatmulDescCreate");
  const Role role = role_of(in);
  const int32_t first = role == Role::nt ? LT_OP_T : 0, second = role == Role::tn ? LT_OP_T : 0;
  check(lt.set_product(p.product, LT_DESC_TRANSA, &first, sizeof first), "MatmulDescSetAttribute");
  check(lt.set_product(p.product, LT_DESC_TRANSB, &second, sizeof second), "MatmulDescSetAttribute");
  void* preference = nullptr;
  check(lt.make_preference(&preference), "MatmulPreferenceCreate");
  const size_t workspace = size_t(LT_WORKSPACE);
  check(lt.set_preference(preference, LT_PREF_WORKSPACE, &workspace, sizeof workspace), "MatmulPreferenceSetAttribute");
  for (int i = 0; i < 4; ++i) {
    check(lt.set_preference(preference, LT_PREF_ALIGNMENT_A + i, &alignment, sizeof alignment),
          "MatmulPreferenceSetAttribute");
  }
  LtChoice choice = {};
  int count = 0;
  check(lt.choose(handle_of(lt), p.product, p.b, p.a, p.c, p.c, preference, 1, &choice, &count),
        "MatmulAlgoGetHeuristic");
  check(lt.drop_preference(preference), "MatmulPreferenceDestroy");
  if (count == 0 || choice.state != 0)
    throw std::runtime_error("cublasLtMatmulAlgoGetHeuristic: expected a choice, got none");
  p.algorithm = choice.algorithm;
  return p;
}

// Memory of the device for a while.
struct Memory {
  char* bytes;
  explicit Memory(int64_t count) : bytes(naming("cublaslt", [&] { return device_allocate(count); })) {}
  ~Memory() { device_release(device_of(bytes), bytes); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
};

// The product of a shape; made, and tried on memory of its own, when it is first asked for.
static const LtProduct& product_of(const LtLibrary& lt, const Instruction& in, Places at) {
  typedef std::array<int64_t, 9> Key;
  static std::map<Key, LtProduct> products;
  const View &a = in.operands[0], &b = in.operands[1];
  const intptr_t bits =
      intptr_t(at.a) | intptr_t(at.b) | intptr_t(at.c) | ((a.ld | b.ld | at.ld) * int64_t(sizeof(real)));
  const uint32_t alignment = bits % LT_VECTOR == 0 ? LT_VECTOR : sizeof(real);
  const Key key = {
      int64_t(device_stream()), int64_t(role_of(in)), in.rows, in.cols, depth_of(in), a.ld, b.ld, at.ld, alignment};
  {
    const std::lock_guard<std::mutex> lock(mutex());
    const auto found = products.find(key);
    if (found != products.end()) return found->second;
  }
  const LtProduct made = chosen(lt, in, at.ld, alignment);
  const Memory tried(in.rows * at.ld * int64_t(sizeof(real)));
  at.c = reinterpret_cast<real*>(tried.bytes);
  multiply(lt, made, at);
  device_wait();
  const std::lock_guard<std::mutex> lock(mutex());
  return products.emplace(key, made).first->second;
}

void prepare_library(const Launch& l) {
  for (int64_t member = 0; member < l.members; ++member) product_of(library("run"), l.bound, places(l.bound, member));
}

static void multiply_members(const Launch& l) {
  const LtLibrary& lt = library("run");
  for (int64_t member = 0; member < l.members; ++member) {
    const Places at = places(l.bound, member);
    multiply(lt, product_of(lt, l.bound, at), at);
  }
}

static int32_t phases(const Instruction& in) { return only_stores(in) ? 1 : 2 + chain_reduces(in); }

static int64_t items(const Instruction& in, int32_t phase) {
  return phase == 0 ? 1 : phase == 1 ? tile_items(in) : merge_items(in);
}

static void launch(const Launch& l, int32_t phase) {
  if (phase == 0) return multiply_members(l);
  if (phase == 1) return launch_sum(l, 1);
  launch_merge(l);
}

extern const Entry library_product_entry = {{phases, items, scratch, nullptr}, launch};

DLCORE_END

// SPDX-License-Identifier: Apache-2.0
// Refusals: std::invalid_argument (ValueError in Python) with a message of the form `who: expected what, got what`.
#pragma once
#include <cstdint>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace dlcore {

template <class... Parts>
std::string message(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

// "1.21 GB": three digits.
inline std::string bytes_text(int64_t bytes) {
  constexpr const char* UNITS[] = {"bytes", "kB", "MB", "GB", "TB", "PB", "EB"};
  int unit = 0;
  double number = double(bytes);
  for (; number >= 1000; ++unit) number /= 1000;
  std::ostringstream text;
  text.precision(3);
  text << number << ' ' << UNITS[unit];
  return text.str();
}

// MemoryError in Python.
class NoMemory : public std::bad_alloc {
 public:
  explicit NoMemory(std::string text) : text_(std::move(text)) {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

// work(); what it says of missing memory begins with a name.
template <class Work>
auto naming(const std::string& who, Work work) {
  try {
    return work();
  } catch (const NoMemory& error) {
    throw NoMemory(message(who, ": ", error.what()));
  }
}

}  // namespace dlcore

#define CHECK_ARG(condition, ...)                                                  \
  do {                                                                             \
    if (!(condition)) throw std::invalid_argument(::dlcore::message(__VA_ARGS__)); \
  } while (false)

// SPDX-License-Identifier: Apache-2.0
// Refusals: std::invalid_argument (ValueError in Python) with a message of the form `who: expected what, got what`.
#pragma once
#include <sstream>
#include <stdexcept>

namespace dlcore {

template <class... Parts>
std::string message(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

}  // namespace dlcore

#define CHECK_ARG(condition, ...)                                                  \
  do {                                                                             \
    if (!(condition)) throw std::invalid_argument(::dlcore::message(__VA_ARGS__)); \
  } while (false)

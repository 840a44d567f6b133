// Variables, paths and patterns of the table, as tests/system/conformance/README.md defines them.
#pragma once

#include <stdexcept>
#include <string>

#include <nlohmann/json.hpp>

using nlohmann::json;

// A step does not hold; what() says where and why.
struct Mismatch : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Fills ${name} in every string of a value.
json substitute(const json& value, const json& variables);

// Returns what is at a dotted path. Mismatch when nothing is.
const json& at_path(const json& document, const std::string& path);

// Throws Mismatch, saying where, unless the pattern matches; nullptr is nothing.
void check(const json& pattern, const json* actual, const std::string& at);

// Writes JSON on one line, whatever bytes its strings hold.
std::string dumped(const json& value);

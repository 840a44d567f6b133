#include "matching.h"

#include <cstdlib>

namespace {

std::string brief(const json* value) {
  const std::string text = value == nullptr ? "null" : dumped(*value);
  return text.size() <= 200 ? text : text.substr(0, 200) + "...";
}

json fill(const std::string& text, const json& variables) {
  std::string filled;
  std::size_t done = 0;
  while (true) {
    const std::size_t begin = text.find("${", done);
    const std::size_t end = begin == std::string::npos ? begin : text.find('}', begin);
    if (end == std::string::npos) return filled + text.substr(done);
    const std::string name = text.substr(begin + 2, end - begin - 2);
    if (!variables.contains(name)) throw Mismatch("there is no variable " + name);
    const json& value = variables.at(name);
    if (begin == 0 && end + 1 == text.size()) return value;
    filled += text.substr(done, begin - done);
    filled += value.is_string() ? value.get<std::string>() : dumped(value);
    done = end + 1;
  }
}

bool is_empty(const json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_number()) return value.get<double>() == 0;
  if (value.is_string()) return value == "" || value == "0";
  return value.empty();
}

bool equal_number(double expected, const json* actual) {
  if (actual == nullptr) return expected == 0;
  if (actual->is_number()) return expected == actual->get<double>();
  if (!actual->is_string()) return false;
  const auto& text = actual->get_ref<const std::string&>();
  char* end = nullptr;
  const double found = std::strtod(text.c_str(), &end);
  return !text.empty() && *end == '\0' && expected == found;
}

bool equal(const json& pattern, const json* actual) {
  if (pattern.is_null()) return actual == nullptr;
  if (pattern.is_number()) return equal_number(pattern.get<double>(), actual);
  if (pattern.is_boolean()) return actual == nullptr ? !pattern.get<bool>() : *actual == pattern;
  return actual == nullptr ? pattern == "" : *actual == pattern;
}

}  // namespace

json substitute(const json& value, const json& variables) {
  if (value.is_string()) return fill(value.get_ref<const std::string&>(), variables);
  json filled = value;
  if (value.is_structured()) {
    for (json& item : filled) item = substitute(item, variables);
  }
  return filled;
}

const json& at_path(const json& document, const std::string& path) {
  const json* found = &document;
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    const std::string part = path.substr(begin, end - begin);
    begin = end + 1;
    const bool digits = !part.empty() && part.size() < 7 && part.find_first_not_of("0123456789") == std::string::npos;
    if (found->is_object() && found->contains(part)) {
      found = &found->at(part);
    } else if (found->is_array() && digits && std::stoul(part) < found->size()) {
      found = &found->at(std::stoul(part));
    } else {
      throw Mismatch("nothing is at " + path + " to save");
    }
  }
  return *found;
}

void check(const json& pattern, const json* actual, const std::string& at) {
  if (actual != nullptr && actual->is_null()) actual = nullptr;
  const auto differs = [&] { return Mismatch(at + " is " + brief(actual) + ", not " + brief(&pattern)); };
  if (pattern.is_object()) {
    if (actual != nullptr && !actual->is_object()) throw differs();
    for (const auto& [key, item] : pattern.items()) {
      const bool there = actual != nullptr && actual->contains(key);
      check(item, there ? &actual->at(key) : nullptr, at + "." + key);
    }
  } else if (pattern.is_array()) {
    const json items = actual == nullptr ? json::array() : *actual;
    if (!items.is_array() || items.size() != pattern.size()) {
      throw Mismatch(at + " is " + brief(actual) + ", not a list of " + std::to_string(pattern.size()));
    }
    for (std::size_t index = 0; index < pattern.size(); ++index) {
      check(pattern[index], &items[index], at + "." + std::to_string(index));
    }
  } else if (pattern == "*") {
    if (actual == nullptr || is_empty(*actual)) throw Mismatch(at + " is not there, or empty");
  } else if (!equal(pattern, actual)) {
    throw differs();
  }
}

std::string dumped(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

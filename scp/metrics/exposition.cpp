#include "scp/metrics/exposition.h"

#include <cmath>

#include <fmt/format.h>

namespace cardionode {
namespace {

std::string_view word(Exposition::Type type) {
    switch (type) {
        case Exposition::Type::Counter: return "counter";
        case Exposition::Type::Gauge: return "gauge";
        case Exposition::Type::Summary: return "summary";
        case Exposition::Type::Histogram: return "histogram";
    }
    return "untyped";
}

std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '\\' || c == '"') out += '\\';
        if (c == '\n') out += "\\n";
        else out += c;
    }
    return out;
}

std::string number(double value) {
    constexpr double kExact = 9e15;
    if (value == std::floor(value) && std::abs(value) < kExact) return fmt::format("{:.0f}", value);
    return fmt::format("{}", value);
}

}  // namespace

Exposition& Exposition::family(std::string_view name, Type type, std::string_view help) {
    name_ = name;
    text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, word(type));
    return *this;
}

Exposition& Exposition::sample(double value, Labels labels, std::string_view suffix) {
    text_ += name_;
    text_ += suffix;
    if (labels.size() > 0) {
        std::string_view before = "{";
        for (const auto& [name, text] : labels) {
            text_ += fmt::format("{}{}=\"{}\"", before, name, escaped(text));
            before = ",";
        }
        text_ += '}';
    }
    text_ += fmt::format(" {}\n", number(value));
    return *this;
}

Exposition& Exposition::counter(std::string_view name, std::string_view help, double value) {
    return family(name, Type::Counter, help).sample(value);
}

Exposition& Exposition::gauge(std::string_view name, std::string_view help, double value) {
    return family(name, Type::Gauge, help).sample(value);
}

}  // namespace cardionode

// Numbers as Prometheus reads them (text exposition format 0.0.4), and who answers for one of our programs.
//
// Thread safety: one object belongs to one thread.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cardionode {

class Exposition {
public:
    enum class Type { Counter, Gauge, Summary, Histogram };
    using Labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;

    /// HELP and TYPE of the samples that follow. @param name  with its unit; of a counter with "_total"
    Exposition& family(std::string_view name, Type type, std::string_view help);
    /// @param suffix  of a summary or histogram: "_sum", "_count", "_bucket"
    Exposition& sample(double value, Labels labels = {}, std::string_view suffix = {});
    /// A family of one sample.
    Exposition& counter(std::string_view name, std::string_view help, double value);
    Exposition& gauge(std::string_view name, std::string_view help, double value);
    const std::string& text() const { return text_; }

private:
    std::string name_;
    std::string text_;
};

}  // namespace cardionode

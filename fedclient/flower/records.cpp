#include "fedclient/flower/records.h"

#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "fedclient/flower/fleet.pb.h"

namespace cardionode::fed {
namespace {

template <class... F>
struct Overloaded : F... {
    using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

/// false: nothing that a MetricRecord may hold.
bool set_value(const RecordValue& value, fleet::Value& to) {
    const auto copy = [](const auto& from, auto* list) {
        for (const auto& one : from) list->add_vals(one);
    };
    return std::visit(Overloaded{
                          [&](double v) { return to.set_real(v), true; },
                          [&](std::int64_t v) { return to.set_sint(v), true; },
                          [&](std::uint64_t v) { return to.set_uint(v), true; },
                          [&](bool v) { return to.set_truth(v), false; },
                          [&](const std::string& v) { return to.set_text(v), false; },
                          [&](const std::vector<double>& v) { return copy(v, to.mutable_real_list()), true; },
                          [&](const std::vector<std::int64_t>& v) { return copy(v, to.mutable_sint_list()), true; },
                          [&](const std::vector<std::uint64_t>& v) { return copy(v, to.mutable_uint_list()), true; },
                          [&](const std::vector<bool>& v) { return copy(v, to.mutable_truth_list()), false; },
                          [&](const std::vector<std::string>& v) { return copy(v, to.mutable_text_list()), false; },
                      },
                      value);
}

template <class T, class List>
std::vector<T> list_of(const List& list) {
    return std::vector<T>(list.vals().begin(), list.vals().end());
}

Result<RecordValue> value_from(const std::string& key, const fleet::Value& from, bool numbers_only) {
    using Kind = fleet::Value::KindCase;
    switch (from.kind_case()) {
        case Kind::kReal: return RecordValue(from.real());
        case Kind::kSint: return RecordValue(static_cast<std::int64_t>(from.sint()));
        case Kind::kUint: return RecordValue(static_cast<std::uint64_t>(from.uint()));
        case Kind::kRealList: return RecordValue(list_of<double>(from.real_list()));
        case Kind::kSintList: return RecordValue(list_of<std::int64_t>(from.sint_list()));
        case Kind::kUintList: return RecordValue(list_of<std::uint64_t>(from.uint_list()));
        case Kind::KIND_NOT_SET: return reject_error(fmt::format("record: {}: no value of a known type", key));
        default: break;
    }
    if (numbers_only) return reject_error(fmt::format("metric record: {}: not a number", key));
    switch (from.kind_case()) {
        case Kind::kTruth: return RecordValue(from.truth());
        case Kind::kText: return RecordValue(from.text());
        case Kind::kRaw: return RecordValue(from.raw());
        case Kind::kTruthList: return RecordValue(list_of<bool>(from.truth_list()));
        case Kind::kTextList: return RecordValue(list_of<std::string>(from.text_list()));
        case Kind::kRawList: return RecordValue(list_of<std::string>(from.raw_list()));
        default: return reject_error(fmt::format("record: {}: no value of a known type", key));
    }
}

struct Body {
    std::string bytes;
    std::string not_a_number;  ///< the first key of that kind
};

Body body_of(const Record& record) {
    fleet::ValueRecord message;
    Body body;
    for (const auto& [key, value] : record) {
        fleet::RecordItem& item = *message.add_items();
        item.set_key(key);
        if (!set_value(value, *item.mutable_value()) && body.not_a_number.empty()) body.not_a_number = key;
    }
    google::protobuf::io::StringOutputStream stream(&body.bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
    return body;
}

Result<Record> parse_body(std::string_view body, bool numbers_only) {
    fleet::ValueRecord message;
    if (!message.ParseFromArray(body.data(), static_cast<int>(body.size())))
        return reject_error("record: not a record in protobuf");
    Record record;
    for (const fleet::RecordItem& item : message.items()) {
        auto value = value_from(item.key(), item.value(), numbers_only);
        if (!value) return std::move(value).error();
        if (!record.emplace(item.key(), std::move(value).value()).second)
            return reject_error(fmt::format("record: {}: stands twice", item.key()));
    }
    return record;
}

}  // namespace

std::string config_body(const Record& record) { return body_of(record).bytes; }

Result<std::string> metric_body(const Record& record) {
    Body body = body_of(record);
    if (!body.not_a_number.empty()) return bug_error(fmt::format("metric {}: not a number", body.not_a_number));
    return std::move(body.bytes);
}

Result<Record> parse_config_body(std::string_view body) { return parse_body(body, false); }
Result<Record> parse_metric_body(std::string_view body) { return parse_body(body, true); }

std::string make_config_object(const Record& record) {
    return make_object(ObjectType::ConfigRecord, {}, config_body(record));
}

Result<std::string> make_metric_object(const Record& record) {
    auto body = metric_body(record);
    if (!body) return std::move(body).error();
    return make_object(ObjectType::MetricRecord, {}, *body);
}

Result<Record> parse_record_object(const Object& object) {
    if (object.head.type == ObjectType::ConfigRecord) return parse_config_body(object.body);
    if (object.head.type == ObjectType::MetricRecord) return parse_metric_body(object.body);
    return reject_error(fmt::format("a {} where a record is expected", to_string(object.head.type)));
}

}  // namespace cardionode::fed

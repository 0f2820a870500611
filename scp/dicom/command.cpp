#include "scp/dicom/command.h"

#include <algorithm>

namespace cardionode {
namespace {

constexpr std::size_t kMaxUidBytes = 64;
constexpr std::uint16_t kNoDataSet = 0x0101, kHasDataSet = 0x0001;

std::uint32_t little(std::span<const std::byte> bytes) {
    std::uint32_t value = 0;
    for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | std::to_integer<std::uint32_t>(bytes[i]);
    return value;
}

std::string uid_of(std::span<const std::byte> bytes) {
    std::string uid(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    while (!uid.empty() && (uid.back() == '\0' || uid.back() == ' ')) uid.pop_back();
    return uid;
}

void put(std::vector<std::byte>& out, std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) out.push_back(static_cast<std::byte>(value >> (8 * i) & 0xff));
}

void put_element(std::vector<std::byte>& out, std::uint16_t element, std::string_view text, char padding) {
    put(out, 0, 2);
    put(out, element, 2);
    put(out, text.size() + text.size() % 2, 4);
    for (const char c : text) out.push_back(static_cast<std::byte>(c));
    if (text.size() % 2 == 1) out.push_back(static_cast<std::byte>(padding));
}

void put_number(std::vector<std::byte>& out, std::uint16_t element, std::uint16_t value) {
    put(out, 0, 2);
    put(out, element, 2);
    put(out, 2, 4);
    put(out, value, 2);
}

std::vector<std::byte> with_group_length(const std::vector<std::byte>& elements) {
    std::vector<std::byte> out;
    put(out, 0, 2);
    put(out, 0, 2);
    put(out, 4, 4);
    put(out, elements.size(), 4);
    out.insert(out.end(), elements.begin(), elements.end());
    return out;
}

}  // namespace

Result<Command> parse_command(std::span<const std::byte> bytes) {
    Command command;
    bool field = false, message_id = false, data_set_type = false;
    bool responded = false, status = false, event = false, action = false;
    std::uint16_t responded_to = 0;
    while (!bytes.empty()) {
        if (bytes.size() < 8) return reject_error("a command element is cut off");
        const std::uint32_t group = little(bytes.first(2)), element = little(bytes.subspan(2, 2));
        const std::uint32_t length = little(bytes.subspan(4, 4));
        bytes = bytes.subspan(8);
        if (group != 0) return reject_error("a command holds an element of another group");
        if (length > bytes.size()) return reject_error("a command element goes past its end");
        const auto value = bytes.first(length);
        bytes = bytes.subspan(length);
        const auto number = [&](bool& seen, std::uint16_t& target) -> Result<void> {
            if (length != 2 || seen) return reject_error("a command element has a wrong length or is there twice");
            seen = true;
            target = static_cast<std::uint16_t>(little(value));
            return {};
        };
        Result<void> read;
        if (element == 0x0100) {
            read = number(field, command.field);
        } else if (element == 0x0110) {
            read = number(message_id, command.message_id);
        } else if (element == 0x0120) {
            read = number(responded, responded_to);
        } else if (element == 0x0900) {
            read = number(status, command.status);
        } else if (element == 0x1002) {
            read = number(event, command.type_id);
        } else if (element == 0x1008) {
            read = number(action, command.type_id);
        } else if (element == 0x0800) {
            std::uint16_t type = kNoDataSet;
            read = number(data_set_type, type);
            command.has_data_set = type != kNoDataSet;
        } else if (element == 0x0002 || element == 0x0003 || element == 0x1000 || element == 0x1001) {
            if (length > kMaxUidBytes + 2) return reject_error("a UID of the command is too long");
            (element < 0x1000 ? command.sop_class_uid : command.sop_instance_uid) = uid_of(value);
        }
        if (!read) return std::move(read).error();
    }
    if (!field) return reject_error("the command has no Command Field");
    if (!data_set_type) return reject_error("the command has no Command Data Set Type");
    if (command.is_response()) {
        if (!responded) return reject_error("the response has no Message ID Being Responded To");
        command.message_id = responded_to;
    } else if (!message_id && command.field != command_field::kCancelRequest) {
        return reject_error("the command has no Message ID");
    }
    return command;
}

std::vector<std::byte> write_request(const Command& request) {
    const bool action = request.field == command_field::kActionRequest;
    std::vector<std::byte> elements;
    put_element(elements, action ? 0x0003 : 0x0002, request.sop_class_uid, '\0');
    put_number(elements, 0x0100, request.field);
    put_number(elements, 0x0110, request.message_id);
    put_number(elements, 0x0800, kHasDataSet);
    put_element(elements, action ? 0x1001 : 0x1000, request.sop_instance_uid, '\0');
    put_number(elements, action ? 0x1008 : 0x1002, request.type_id);
    return with_group_length(elements);
}

std::vector<std::byte> write_response(const Command& request, std::uint16_t status, std::string_view comment) {
    std::vector<std::byte> elements;
    if (!request.sop_class_uid.empty()) put_element(elements, 0x0002, request.sop_class_uid, '\0');
    put_number(elements, 0x0100, request.field | command_field::kResponseBit);
    put_number(elements, 0x0120, request.message_id);
    put_number(elements, 0x0800, kNoDataSet);
    put_number(elements, 0x0900, status);
    if (!comment.empty()) put_element(elements, 0x0902, comment.substr(0, 64), ' ');
    if (!request.sop_instance_uid.empty()) put_element(elements, 0x1000, request.sop_instance_uid, '\0');
    if (request.field == command_field::kEventReportRequest) put_number(elements, 0x1002, request.type_id);
    if (request.field == command_field::kActionRequest) put_number(elements, 0x1008, request.type_id);
    return with_group_length(elements);
}

}  // namespace cardionode

#include "tests/scp/server/raw_pdu.h"

namespace cardionode::test {

std::string be(std::size_t value, int bytes) {
    std::string out;
    for (int i = bytes; i-- > 0;) out += static_cast<char>(value >> 8 * i & 0xff);
    return out;
}
std::string le(std::size_t value, int bytes) {
    std::string out;
    for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> 8 * i & 0xff);
    return out;
}
std::string item(int type, const std::string& body) {
    return be(static_cast<std::size_t>(type), 1) + be(0, 1) + be(body.size(), 2) + body;
}
std::string element(int number, std::string value) {
    if (value.size() % 2 == 1) value += '\0';
    return le(0, 2) + le(static_cast<std::size_t>(number), 2) + le(value.size(), 4) + value;
}
std::string command_set(const std::string& elements) { return element(0, le(elements.size(), 4)) + elements; }

std::string pdu(int type, const std::string& body) {
    return be(static_cast<std::size_t>(type), 1) + be(0, 1) + be(body.size(), 4) + body;
}

std::string reject_pdu(int result, int source, int reason) {
    return pdu(3, std::string{0, static_cast<char>(result), static_cast<char>(source), static_cast<char>(reason)});
}
std::string abort_pdu(int source, int reason) {
    return pdu(7, std::string{0, 0, static_cast<char>(source), static_cast<char>(reason)});
}
std::string release_pdu() { return pdu(5, std::string(4, '\0')); }

std::string context_item(const Proposal& proposal) {
    std::string context =
        be(static_cast<std::size_t>(proposal.id), 1) + be(0, 3) + item(0x30, proposal.abstract_syntax);
    for (const std::string& syntax : proposal.transfer_syntaxes) context += item(0x40, syntax);
    return item(0x20, context);
}

std::string user_information(std::uint32_t max_pdu, const std::string& more) {
    return item(0x50, item(0x51, be(max_pdu, 4)) + item(0x52, "1.2.3.4") + item(0x55, "TEST") + more);
}

std::string associate_pdu(const std::string& items, const std::string& called, const std::string& calling,
                          int version) {
    return pdu(1, be(static_cast<std::size_t>(version), 2) + be(0, 2) + called + std::string(16 - called.size(), ' ') +
                      calling + std::string(16 - calling.size(), ' ') + std::string(32, '\0') + items);
}

std::string associate_request(const std::vector<Proposal>& proposals, const std::string& called,
                              const std::string& calling, const std::string& application_context, int version,
                              std::uint32_t max_pdu) {
    std::string items = item(0x10, application_context);
    for (const Proposal& proposal : proposals) items += context_item(proposal);
    return associate_pdu(items + user_information(max_pdu), called, calling, version);
}

std::string data_pdu(int context, int control, const std::string& bytes) {
    return pdu(4, be(bytes.size() + 2, 4) + be(static_cast<std::size_t>(context), 1) +
                      be(static_cast<std::size_t>(control), 1) + bytes);
}

std::string data_set_pdus(int context, const std::string& bytes) {
    constexpr std::size_t kPart = 16'000;
    std::string all;
    for (std::size_t at = 0; at == 0 || at < bytes.size(); at += kPart)
        all += data_pdu(context, at + kPart < bytes.size() ? 0 : 2, bytes.substr(at, kPart));
    return all;
}

std::string request_command(int field, const std::string& sop_class, int data_set_type, int message_id,
                            const std::string& more) {
    return command_set(element(0x0002, sop_class) + element(0x0100, le(static_cast<std::size_t>(field), 2)) +
                       element(0x0110, le(static_cast<std::size_t>(message_id), 2)) +
                       element(0x0800, le(static_cast<std::size_t>(data_set_type), 2)) + more);
}

std::string store_command(const Instance& instance, int message_id, int data_set_type) {
    return command_set(element(0x0002, instance.sop_class_uid) + element(0x0100, le(1, 2)) +
                       element(0x0110, le(static_cast<std::size_t>(message_id), 2)) + element(0x0700, le(0, 2)) +
                       element(0x0800, le(static_cast<std::size_t>(data_set_type), 2)) +
                       element(0x1000, instance.sop_instance_uid));
}

std::string echo_command(int message_id) {
    return command_set(element(0x0002, "1.2.840.10008.1.1") + element(0x0100, le(0x30, 2)) +
                       element(0x0110, le(static_cast<std::size_t>(message_id), 2)) + element(0x0800, le(0x0101, 2)));
}

std::pair<int, std::string> response_of(const std::string& bytes) {
    if (bytes.size() < 12 || bytes[0] != 4) return {-1, {}};
    std::pair<int, std::string> found{-1, {}};
    for (std::size_t at = 12; at + 8 <= bytes.size();) {
        const auto number = [&](std::size_t offset, int width) {
            std::size_t value = 0;
            for (int i = width; i-- > 0;)
                value = value << 8 | static_cast<unsigned char>(bytes[at + offset + static_cast<std::size_t>(i)]);
            return value;
        };
        const std::size_t length = number(4, 4);
        if (number(2, 2) == 0x0900) found.first = static_cast<int>(number(8, 2));
        if (number(2, 2) == 0x0902) found.second = bytes.substr(at + 8, length);
        at += 8 + length;
    }
    return found;
}

}  // namespace cardionode::test

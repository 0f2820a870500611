#include <algorithm>

#include "scp/dicom/pdu.h"
#include "scp/dicom/syntaxes.h"

namespace cardionode {
namespace {

void put_u8(std::vector<std::byte>& out, unsigned value) { out.push_back(static_cast<std::byte>(value)); }
void put_u16(std::vector<std::byte>& out, std::size_t value) {
    put_u8(out, value >> 8 & 0xff);
    put_u8(out, value & 0xff);
}
void put_u32(std::vector<std::byte>& out, std::size_t value) {
    put_u16(out, value >> 16 & 0xffff);
    put_u16(out, value & 0xffff);
}
void put_bytes(std::vector<std::byte>& out, std::span<const std::byte> bytes) {
    out.insert(out.end(), bytes.begin(), bytes.end());
}
void put_item(std::vector<std::byte>& out, unsigned type, std::string_view text) {
    put_u8(out, type);
    put_u8(out, 0);
    put_u16(out, text.size());
    put_bytes(out, std::as_bytes(std::span(text.data(), text.size())));
}

void put_ae_title(std::vector<std::byte>& out, std::string title) {
    title.resize(16, ' ');
    put_bytes(out, std::as_bytes(std::span(title.data(), title.size())));
}
void put_user_information(std::vector<std::byte>& out, std::uint32_t max_pdu, std::span<const RoleSelection> roles) {
    std::vector<std::byte> user;
    put_u8(user, 0x51);
    put_u8(user, 0);
    put_u16(user, 4);
    put_u32(user, max_pdu);
    put_item(user, 0x52, kImplementationClassUid);
    for (const RoleSelection& role : roles) {
        put_u8(user, 0x54);
        put_u8(user, 0);
        put_u16(user, 4 + role.sop_class_uid.size());
        put_u16(user, role.sop_class_uid.size());
        put_bytes(user, std::as_bytes(std::span(role.sop_class_uid.data(), role.sop_class_uid.size())));
        put_u8(user, role.scu ? 1 : 0);
        put_u8(user, role.scp ? 1 : 0);
    }
    put_item(user, 0x55, kImplementationVersion);
    put_u8(out, 0x50);
    put_u8(out, 0);
    put_u16(out, user.size());
    put_bytes(out, user);
}

std::vector<std::byte> pdu(PduType type, std::span<const std::byte> body) {
    std::vector<std::byte> out;
    out.reserve(kPduHeaderBytes + body.size());
    put_u8(out, static_cast<unsigned>(type));
    put_u8(out, 0);
    put_u32(out, body.size());
    put_bytes(out, body);
    return out;
}

std::vector<std::byte> four_bytes(PduType type, unsigned a, unsigned b, unsigned c) {
    std::vector<std::byte> body;
    put_u8(body, 0);
    put_u8(body, a);
    put_u8(body, b);
    put_u8(body, c);
    return pdu(type, body);
}

}  // namespace

std::vector<std::byte> write_associate_accept(const AssociateRequest& request,
                                              std::span<const AnsweredContext> contexts, std::uint32_t max_pdu,
                                              std::span<const RoleSelection> roles) {
    std::vector<std::byte> body;
    put_u16(body, 1);
    put_u16(body, 0);
    put_bytes(body, request.echoed);
    put_item(body, 0x10, kApplicationContext);
    for (const AnsweredContext& context : contexts) {
        put_u8(body, 0x21);
        put_u8(body, 0);
        put_u16(body, 4 + 4 + context.transfer_syntax.size());
        put_u8(body, context.id);
        put_u8(body, 0);
        put_u8(body, static_cast<unsigned>(context.result));
        put_u8(body, 0);
        put_item(body, 0x40, context.transfer_syntax);
    }
    put_user_information(body, max_pdu, roles);
    return pdu(PduType::AssociateAccept, body);
}

std::vector<std::byte> write_associate_request(const AssociateRequest& request) {
    std::vector<std::byte> body;
    put_u16(body, 1);
    put_u16(body, 0);
    put_ae_title(body, request.called_ae_title);
    put_ae_title(body, request.calling_ae_title);
    for (int i = 0; i < 32; ++i) put_u8(body, 0);
    put_item(body, 0x10, kApplicationContext);
    for (const ProposedContext& context : request.contexts) {
        std::vector<std::byte> item;
        put_u8(item, context.id);
        for (int i = 0; i < 3; ++i) put_u8(item, 0);
        put_item(item, 0x30, context.abstract_syntax);
        for (const std::string& syntax : context.transfer_syntaxes) put_item(item, 0x40, syntax);
        put_u8(body, 0x20);
        put_u8(body, 0);
        put_u16(body, item.size());
        put_bytes(body, item);
    }
    put_user_information(body, request.max_pdu, request.roles);
    return pdu(PduType::AssociateRequest, body);
}

std::vector<std::byte> write_associate_reject(Rejection rejection) {
    return four_bytes(PduType::AssociateReject, rejection.result, rejection.source, rejection.reason);
}

std::vector<std::byte> write_abort(std::uint8_t source, AbortReason reason) {
    return four_bytes(PduType::Abort, 0, source, static_cast<unsigned>(reason));
}

std::vector<std::byte> write_release_request() { return four_bytes(PduType::ReleaseRequest, 0, 0, 0); }
std::vector<std::byte> write_release_response() { return four_bytes(PduType::ReleaseResponse, 0, 0, 0); }

std::vector<std::byte> write_data_pdus(std::uint8_t context_id, bool command, std::span<const std::byte> message,
                                       std::uint32_t peer_max_pdu) {
    constexpr std::size_t kValueHeader = 6;
    const std::size_t room = peer_max_pdu == 0 ? 65536 : std::max<std::size_t>(peer_max_pdu, kValueHeader + 2);
    std::vector<std::byte> out;
    do {
        const auto part = message.first(std::min(message.size(), room - kValueHeader));
        message = message.subspan(part.size());
        std::vector<std::byte> body;
        body.reserve(kValueHeader + part.size());
        put_u32(body, part.size() + 2);
        put_u8(body, context_id);
        put_u8(body, (command ? 1U : 0U) | (message.empty() ? 2U : 0U));
        put_bytes(body, part);
        put_bytes(out, pdu(PduType::Data, body));
    } while (!message.empty());
    return out;
}

}  // namespace cardionode

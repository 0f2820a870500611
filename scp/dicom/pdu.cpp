#include "scp/dicom/pdu.h"

#include <algorithm>
#include <bitset>
#include <type_traits>

#include <fmt/format.h>

namespace cardionode {
namespace {

constexpr std::size_t kMaxUidBytes = 64;
constexpr std::size_t kMaxTransferSyntaxes = 256;
constexpr std::size_t kMaxRoles = 256;  // one for each of 128 contexts is what peers need

/// Reads big-endian numbers and stretches of bytes, never past the end.
class Reader {
public:
    explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
    std::size_t left() const { return bytes_.size(); }
    std::span<const std::byte> take(std::size_t n) {
        const auto taken = bytes_.first(std::min(n, bytes_.size()));
        bytes_ = bytes_.subspan(taken.size());
        return taken;
    }
    std::uint8_t u8() {
        const auto b = take(1);
        return b.empty() ? 0 : std::to_integer<std::uint8_t>(b[0]);
    }
    std::uint16_t u16() {
        const std::uint16_t high = u8();
        return static_cast<std::uint16_t>(high << 8 | u8());
    }
    std::uint32_t u32() {
        const std::uint32_t high = u16();
        return high << 16 | u16();
    }

private:
    std::span<const std::byte> bytes_;
};

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// UIDs of associations are not padded, but peers pad them with a zero or a space all the same.
std::string uid_of(std::span<const std::byte> bytes) {
    std::string uid = text_of(bytes);
    while (!uid.empty() && (uid.back() == '\0' || uid.back() == ' ')) uid.pop_back();
    return uid;
}

std::string ae_title_of(std::span<const std::byte> bytes) {
    std::string title = text_of(bytes);
    while (!title.empty() && (title.back() == ' ' || title.back() == '\0')) title.pop_back();
    title.erase(0, std::min(title.find_first_not_of(' '), title.size()));
    return title;
}

struct Item {
    std::uint8_t type = 0;
    std::span<const std::byte> body;
};

Result<Item> next_item(Reader& reader) {
    if (reader.left() < 4) return reject_error("an item is cut off");
    Item item;
    item.type = reader.u8();
    reader.u8();
    const std::size_t length = reader.u16();
    if (length > reader.left()) return reject_error(fmt::format("item {:02x}H goes past its end", item.type));
    item.body = reader.take(length);
    return item;
}

Result<ProposedContext> parse_context(std::span<const std::byte> body) {
    if (body.size() < 4) return reject_error("a presentation context is cut off");
    Reader reader(body);
    ProposedContext context;
    context.id = reader.u8();
    if (context.id % 2 == 0) return reject_error("a presentation context has an even number");
    reader.take(3);
    int abstract_syntaxes = 0;
    while (reader.left() > 0) {
        auto item = next_item(reader);
        if (!item) return std::move(item).error();
        if (item->type != 0x30 && item->type != 0x40) continue;
        if (item->body.size() > kMaxUidBytes + 1) return reject_error("a UID of a presentation context is too long");
        if (item->type == 0x30) {
            context.abstract_syntax = uid_of(item->body);
            ++abstract_syntaxes;
        } else {
            if (context.transfer_syntaxes.size() == kMaxTransferSyntaxes)
                return reject_error("a presentation context has too many transfer syntaxes");
            context.transfer_syntaxes.push_back(uid_of(item->body));
        }
    }
    if (abstract_syntaxes != 1) return reject_error("a presentation context needs one abstract syntax");
    if (context.transfer_syntaxes.empty()) return reject_error("a presentation context has no transfer syntax");
    return context;
}

/// PS3.7 Table D.3-9.
Result<RoleSelection> parse_role(std::span<const std::byte> body) {
    Reader reader(body);
    const std::size_t size = reader.u16();
    if (size > kMaxUidBytes + 1 || reader.left() < size + 2) return reject_error("a role selection has a wrong size");
    RoleSelection role;
    role.sop_class_uid = uid_of(reader.take(size));
    role.scu = reader.u8() == 1;
    role.scp = reader.u8() == 1;
    return role;
}

/// What requests and answers have in common.
template <class Associate>
Result<void> parse_user_information(std::span<const std::byte> body, Associate& request) {
    Reader reader(body);
    while (reader.left() > 0) {
        auto item = next_item(reader);
        if (!item) return std::move(item).error();
        if (item->type == 0x51) {
            if (item->body.size() != 4) return reject_error("the maximum length item has a wrong size");
            request.max_pdu = Reader(item->body).u32();
        } else if (item->type == 0x54) {
            if (request.roles.size() == kMaxRoles) return reject_error("too many role selections");
            auto role = parse_role(item->body);
            if (!role) return std::move(role).error();
            request.roles.push_back(std::move(role).value());
        }
        if constexpr (std::is_same_v<Associate, AssociateRequest>) {
            if (item->type == 0x52) {
                request.implementation_class_uid = uid_of(item->body.first(std::min(item->body.size(), kMaxUidBytes)));
            } else if (item->type == 0x55) {
                request.implementation_version =
                    text_of(item->body.first(std::min<std::size_t>(item->body.size(), 16)));
            } else if (item->type == 0x58) {
                // A positive response, if one is asked for, is left out: so answers who has no use for it (D.3.3.7.2).
                const std::uint8_t type = Reader(item->body).u8();
                request.user_identity =
                    type >= 1 && type <= 5 ? static_cast<UserIdentity>(type) : UserIdentity::Unknown;
            }
        }
    }
    return {};
}

}  // namespace

std::string_view to_string(UserIdentity identity) {
    switch (identity) {
        case UserIdentity::None: return "none";
        case UserIdentity::Username: return "username";
        case UserIdentity::UsernameAndPasscode: return "username_and_passcode";
        case UserIdentity::Kerberos: return "kerberos";
        case UserIdentity::Saml: return "saml";
        case UserIdentity::Jwt: return "jwt";
        case UserIdentity::Unknown: return "unknown";
    }
    return "unknown";
}

PduHeader parse_pdu_header(std::span<const std::byte, kPduHeaderBytes> bytes) {
    Reader reader(bytes);
    PduHeader header;
    header.type = reader.u8();
    reader.u8();
    header.length = reader.u32();
    return header;
}

Result<AssociateRequest> parse_associate_request(std::span<const std::byte> body) {
    constexpr std::size_t kFixed = 68;
    if (body.size() < kFixed) return reject_error("the association request is cut off");
    AssociateRequest request;
    Reader reader(body);
    request.protocol_version = reader.u16();
    reader.u16();
    const auto echoed = reader.take(64);
    request.echoed.assign(echoed.begin(), echoed.end());
    request.called_ae_title = ae_title_of(echoed.first(16));
    request.calling_ae_title = ae_title_of(echoed.subspan(16, 16));
    std::bitset<256> ids;
    bool user_information = false;
    while (reader.left() > 0) {
        auto item = next_item(reader);
        if (!item) return std::move(item).error();
        if (item->type == 0x10) {
            if (!request.application_context.empty()) return reject_error("two application contexts");
            if (item->body.size() > kMaxUidBytes + 1) return reject_error("the application context is too long");
            request.application_context = uid_of(item->body);
        } else if (item->type == 0x20) {
            auto context = parse_context(item->body);
            if (!context) return std::move(context).error();
            if (ids.test(context->id)) return reject_error("two presentation contexts have the same number");
            ids.set(context->id);
            request.contexts.push_back(std::move(context).value());
        } else if (item->type == 0x50) {
            if (user_information) return reject_error("two user information items");
            user_information = true;
            if (auto read = parse_user_information(item->body, request); !read) return std::move(read).error();
        }
    }
    if (request.contexts.empty()) return reject_error("no presentation context");
    return request;
}

Result<AssociateAccept> parse_associate_accept(std::span<const std::byte> body) {
    constexpr std::size_t kFixed = 68;
    if (body.size() < kFixed) return reject_error("the answer to the association request is cut off");
    Reader reader(body.subspan(kFixed));
    AssociateAccept accept;
    while (reader.left() > 0) {
        auto item = next_item(reader);
        if (!item) return std::move(item).error();
        if (item->type == 0x50) {
            if (auto read = parse_user_information(item->body, accept); !read) return std::move(read).error();
        }
        if (item->type != 0x21) continue;
        if (item->body.size() < 4) return reject_error("a presentation context is cut off");
        if (accept.contexts.size() == 128) return reject_error("too many presentation contexts");
        Reader inner(item->body);
        AnsweredContext context;
        context.id = inner.u8();
        inner.u8();
        const std::uint8_t result = inner.u8();
        context.result = result > 4 ? ContextResult::NoReason : static_cast<ContextResult>(result);
        inner.u8();
        while (inner.left() > 0) {  // not significant when it was not accepted
            auto syntax = next_item(inner);
            if (!syntax) return std::move(syntax).error();
            if (syntax->type == 0x40 && syntax->body.size() <= kMaxUidBytes + 1)
                context.transfer_syntax = uid_of(syntax->body);
        }
        accept.contexts.push_back(std::move(context));
    }
    return accept;
}

Result<std::vector<DataValue>> parse_data_values(std::span<const std::byte> body) {
    std::vector<DataValue> values;
    Reader reader(body);
    while (reader.left() > 0) {
        if (reader.left() < 6) return reject_error("a presentation data value is cut off");
        const std::uint32_t length = reader.u32();
        if (length < 2) return reject_error("a presentation data value is shorter than its header");
        if (length > reader.left()) return reject_error("a presentation data value goes past its PDU");
        DataValue value;
        value.context_id = reader.u8();
        const std::uint8_t control = reader.u8();
        value.command = (control & 1) != 0;
        value.last = (control & 2) != 0;
        value.bytes = reader.take(length - 2);
        values.push_back(value);
    }
    if (values.empty()) return reject_error("a data PDU holds nothing");
    return values;
}

}  // namespace cardionode

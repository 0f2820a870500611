#include "scp/audit/message.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include "conf/base/markup.h"

namespace cardionode {
namespace {

/// Peers choose AE titles freely; bytes that are no ASCII would make the XML invalid.
std::string escaped(std::string_view text) {
    std::string ascii(text);
    for (char& c : ascii) {
        if (static_cast<unsigned char>(c) > 0x7e) c = ' ';
    }
    return escaped_markup(ascii);
}

std::string code(std::string_view element, const AuditCode& c) {
    return fmt::format(R"(<{} csd-code="{}" codeSystemName="{}" originalText="{}"/>)", element, escaped(c.value),
                       escaped(c.scheme), escaped(c.meaning));
}

bool is_ip(const std::string& address) {
    unsigned char bytes[16];
    return ::inet_pton(AF_INET, address.c_str(), bytes) == 1 || ::inet_pton(AF_INET6, address.c_str(), bytes) == 1;
}

std::string participant(const AuditParticipant& p, const AuditSource& source) {
    const std::string address = p.address.empty() ? source.host : p.address;
    std::string out = fmt::format(R"(<ActiveParticipant UserID="{}")", escaped(p.user_id));
    if (!p.ae_title.empty()) out += fmt::format(R"( AlternativeUserID="AETITLES={}")", escaped(p.ae_title));
    out += fmt::format(R"( UserIsRequestor="{}" NetworkAccessPointID="{}" NetworkAccessPointTypeCode="{}">)",
                       p.requestor, escaped(address), is_ip(address) ? 2 : 1);
    if (p.role) out += code("RoleIDCode", *p.role);
    return out + "</ActiveParticipant>";
}

std::string study_object(const AuditStudy& study, const AuditSource& source) {
    const bool by_uid = source.study_uids && !study.uid.empty();
    std::string out =
        fmt::format(R"(<ParticipantObjectIdentification ParticipantObjectID="{}" ParticipantObjectTypeCode="2" )"
                    R"(ParticipantObjectTypeCodeRole="3">)",
                    escaped(by_uid ? study.uid : study.key));
    out +=
        code("ParticipantObjectIDTypeCode", by_uid ? AuditCode{"110180", "DCM", "Study Instance UID"}
                                                   : AuditCode{"study-key", "99CARDIONODE", "Study key of the node"});
    out += fmt::format("<ParticipantObjectName>{}</ParticipantObjectName>", escaped(study.key));
    if (!study.instances.empty()) {
        out += "<ParticipantObjectDescription>";
        for (const AuditStudy::Instances& of : study.instances)
            out += fmt::format(R"(<SOPClass UID="{}" NumberOfInstances="{}"/>)", escaped(of.sop_class_uid), of.number);
        out += "</ParticipantObjectDescription>";
    }
    return out + "</ParticipantObjectIdentification>";
}

/// RFC 5424 6.2: visible ASCII without spaces, of limited length.
std::string header_word(std::string_view text, std::size_t longest) {
    std::string out;
    for (const char c : text.substr(0, longest)) out += c > 0x20 && c < 0x7f ? c : '_';
    return out.empty() ? "-" : out;
}

}  // namespace

std::string to_audit_xml(const AuditEvent& event, const AuditSource& source, Moment now) {
    std::string out =
        fmt::format(R"(<?xml version="1.0" encoding="UTF-8"?><AuditMessage><EventIdentification EventActionCode="{}" )"
                    R"(EventDateTime="{}" EventOutcomeIndicator="{}">)",
                    event.action, to_iso8601(event.when.value_or(now)), static_cast<int>(event.outcome));
    out += code("EventID", event.id);
    if (event.type) out += code("EventTypeCode", *event.type);
    if (!event.outcome_description.empty())
        out += fmt::format("<EventOutcomeDescription>{}</EventOutcomeDescription>", escaped(event.outcome_description));
    out += "</EventIdentification>";
    for (const AuditParticipant& p : event.participants) out += participant(p, source);
    // 4: application server process tier in a multi-tier system.
    out += fmt::format(
        R"(<AuditSourceIdentification AuditSourceID="{}"><AuditSourceTypeCode csd-code="4"/></AuditSourceIdentification>)",
        escaped(source.id));
    if (event.study) out += study_object(*event.study, source);
    return out + "</AuditMessage>";
}

std::string to_syslog(const AuditEvent& event, const AuditSource& source, Moment now) {
    constexpr int kSecurity = 10, kWarning = 4, kNotice = 5;
    constexpr std::string_view kUtf8 = "\xEF\xBB\xBF";  // RFC 5424 6.4: says that MSG is UTF-8
    const int priority = kSecurity * 8 + (event.outcome == AuditOutcome::Success ? kNotice : kWarning);
    return fmt::format("<{}>1 {} {} {} {} DICOM+RFC3881 - {}{}", priority, to_iso8601(now),
                       header_word(source.host, 255), header_word(source.program, 48), source.process, kUtf8,
                       to_audit_xml(event, source, now));
}

}  // namespace cardionode

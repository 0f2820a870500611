#include "pipeline/send/status.h"

#include <fmt/format.h>

namespace cardionode {
namespace {

SendVerdict verdict(SendOutcome outcome, const char* words, std::uint16_t status) {
    return {outcome, fmt::format("{} (status 0x{:04X})", words, status)};
}

const char* reason_words(int source, int reason) {
    if (source == 1) {
        switch (reason) {
            case 2: return "application context not supported";
            case 3: return "calling AE title not recognised";
            case 7: return "called AE title not recognised";
            default: return "no reason given";
        }
    }
    if (source == 2) return reason == 2 ? "protocol version not supported" : "no reason given";
    if (source == 3 && reason == 1) return "temporary congestion";
    if (source == 3 && reason == 2) return "local limit exceeded";
    return "no reason given";
}

}  // namespace

SendVerdict judge_store_status(std::uint16_t status) {
    using enum SendOutcome;
    switch (status) {
        case 0x0000: return {Sent, ""};
        case 0x0111: return verdict(Sent, "already there", status);
        case 0x0001:
        case 0x0107:
        case 0x0116: return verdict(Sent, "stored with a warning", status);
        case 0x0110: return verdict(Retry, "processing failure", status);
        case 0x0213: return verdict(Retry, "resource limitation", status);
        case 0x0210: return verdict(Retry, "duplicate invocation", status);
        case 0x0105: return verdict(Park, "no such attribute", status);
        case 0x0106: return verdict(Park, "invalid attribute value", status);
        case 0x0112: return verdict(Park, "no such instance", status);
        case 0x0115: return verdict(Park, "invalid argument value", status);
        case 0x0117: return verdict(Park, "invalid SOP instance", status);
        case 0x0118: return verdict(Park, "no such SOP class", status);
        case 0x0119: return verdict(Park, "class-instance conflict", status);
        case 0x0120: return verdict(Park, "missing attribute", status);
        case 0x0121: return verdict(Park, "missing attribute value", status);
        case 0x0122: return verdict(Park, "SOP class not supported", status);
        case 0x0124: return verdict(Park, "not authorised", status);
        case 0x0211: return verdict(Park, "unrecognised operation", status);
        case 0x0212: return verdict(Park, "mistyped argument", status);
        default: break;
    }
    switch (status & 0xFF00) {
        case 0xA700: return verdict(Retry, "out of resources", status);
        case 0xA800: return verdict(Park, "SOP class not supported", status);
        case 0xA900: return verdict(Park, "data set does not match SOP class", status);
        default: break;
    }
    switch (status & 0xF000) {
        case 0xB000: return verdict(Sent, "stored with a warning", status);
        case 0xC000: return verdict(Park, "cannot understand", status);
        default: return verdict(Retry, "refused with an unknown status", status);
    }
}

SendVerdict judge_rejection(int result, int source, int reason) {
    const bool permanent = result == 1;
    return {permanent ? SendOutcome::Park : SendOutcome::Retry,
            fmt::format("association rejected {}: {}", permanent ? "for good" : "for the moment",
                        reason_words(source, reason))};
}

}  // namespace cardionode

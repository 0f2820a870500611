#include "tests/scp/server/hostile_cases.h"

#include <chrono>
#include <functional>

#include <fmt/format.h>

namespace cardionode::test {
namespace {

std::size_t number(const std::string& bytes, std::size_t at, int width, bool big) {
    std::size_t value = 0;
    for (int i = 0; i < width; ++i)
        value =
            value << 8 | static_cast<unsigned char>(bytes.at(at + static_cast<std::size_t>(big ? i : width - 1 - i)));
    return value;
}

/// PS3.8 Table 9-17: the contexts of an A-ASSOCIATE-AC.
std::string contexts_in(const std::string& accept) {
    std::string words;
    for (std::size_t at = 6 + 68; at + 8 <= accept.size(); at += 4 + number(accept, at + 2, 2, true))
        if (accept[at] == 0x21)
            words += fmt::format(" {}:{}", number(accept, at + 4, 1, true), number(accept, at + 6, 1, true));
    return words;
}

std::string response_in(const std::string& command) {
    std::size_t field = 0, status = 0;
    for (std::size_t at = 0; at + 10 <= command.size(); at += 8 + number(command, at + 4, 4, false)) {
        if (number(command, at + 2, 2, false) == 0x0100) field = number(command, at + 8, 2, false);
        if (number(command, at + 2, 2, false) == 0x0900) status = number(command, at + 8, 2, false);
    }
    const std::string name = field == 0x8001   ? "C-STORE-RSP"
                             : field == 0x8030 ? "C-ECHO-RSP"
                             : field == 0x8130 ? "N-ACTION-RSP"
                             : field == 0x8100 ? "N-EVENT-REPORT-RSP"
                                               : fmt::format("{:04X}-RSP", field);
    return fmt::format("{} {:04X}", name, status);
}

}  // namespace

std::string answers_of(RawPeer& peer) {
    std::string words, command;
    while (true) {
        const std::string pdu = peer.receive_pdu(std::chrono::seconds(3));
        if (pdu.size() < 10)
            return words + (peer.closed_within(std::chrono::milliseconds(100)) ? "closed" : "still open");
        switch (pdu[0]) {
            case 2: words += "A-ASSOCIATE-AC" + contexts_in(pdu) + "; "; break;
            case 3: words += fmt::format("A-ASSOCIATE-RJ {},{},{}; ", +pdu[7], +pdu[8], +pdu[9]); break;
            case 4:
                command += pdu.substr(12);
                if ((pdu.at(11) & 2) == 0) break;
                words += response_in(command) + "; ";
                command.clear();
                break;
            case 6: words += "A-RELEASE-RP; "; break;
            case 7: words += fmt::format("A-ABORT {},{}; ", +pdu[8], +pdu[9]); break;
            default: words += fmt::format("PDU of type {}; ", +pdu[0]);
        }
    }
}

bool in_under_a_second(const std::function<bool()>& served) {
    // On a busy machine the first look may take longer; behind a receiver that is blocked each does.
    for (int tries = 0; tries < 3; ++tries) {
        const auto begun = std::chrono::steady_clock::now();
        if (!served()) return false;
        if (std::chrono::steady_clock::now() - begun < std::chrono::seconds(1)) return true;
    }
    return false;
}

void expect_next_client_served(int port) {
    EXPECT_TRUE(in_under_a_second([port] { return echo_works(port); })) << "the next client had to wait";
}

}  // namespace cardionode::test

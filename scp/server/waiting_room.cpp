#include "scp/server/waiting_room.h"

#include <algorithm>
#include <utility>

#include <sys/ioctl.h>

namespace cardionode {
namespace {

/// Header and fixed part of an A-ASSOCIATE-RQ; a ClientHello is longer as well.
constexpr int kFirstMessageBytes = 74;

std::vector<pollfd> look(const std::vector<WaitingRoom::Guest>& guests) {
    std::vector<pollfd> items;
    items.reserve(guests.size());
    for (const auto& guest : guests) items.push_back({guest.socket.get(), POLLIN, 0});
    if (!items.empty() && ::poll(items.data(), items.size(), 0) < 0)
        for (pollfd& item : items) item.revents = 0;  // a signal came: the next look tells
    return items;
}

/// 0 with something to read: the end.
int bytes_waiting(const WaitingRoom::Guest& guest) {
    int bytes = 0;
    return ::ioctl(guest.socket.get(), FIONREAD, &bytes) == 0 ? bytes : 0;
}

template <class Chosen>
std::vector<WaitingRoom::Guest> take_if(std::vector<WaitingRoom::Guest>& guests, Chosen chosen) {
    std::vector<WaitingRoom::Guest> taken, kept;
    for (auto& guest : guests) (chosen(guest) ? taken : kept).push_back(std::move(guest));
    guests = std::move(kept);
    return taken;
}

}  // namespace

void WaitingRoom::watch(std::vector<pollfd>& items) const {
    for (const Guest& guest : guests_) items.push_back({guest.socket.get(), POLLIN, 0});
}

std::vector<WaitingRoom::Guest> WaitingRoom::take_ready(std::size_t most) {
    const std::vector<pollfd> items = look(guests_);
    std::vector<std::pair<bool, std::size_t>> ready;  // whether its bytes are few, and its place
    for (std::size_t i = 0; i < items.size(); ++i) {
        if (items[i].revents == 0) continue;
        const int bytes = bytes_waiting(guests_[i]);
        if (bytes > 0) ready.emplace_back(bytes < kFirstMessageBytes, i);
    }
    if (ready.size() > most && most > 0) {
        const auto oldest = ready.front();
        std::stable_sort(ready.begin(), ready.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
        const auto place = std::find(ready.begin(), ready.end(), oldest);
        if (place >= ready.begin() + static_cast<std::ptrdiff_t>(most)) ready[most - 1] = oldest;
        ready.resize(most);
    }
    std::vector<Guest> taken;
    for (const auto& [few, place] : ready) taken.push_back(std::move(guests_[place]));
    std::erase_if(guests_, [](const Guest& guest) { return !guest.socket.valid(); });
    return taken;
}

std::vector<WaitingRoom::Guest> WaitingRoom::take_closed() {
    const std::vector<pollfd> items = look(guests_);
    std::size_t i = 0;
    return take_if(guests_, [&](const Guest& guest) { return items[i++].revents != 0 && bytes_waiting(guest) == 0; });
}

std::vector<WaitingRoom::Guest> WaitingRoom::take_overdue(SteadyTime now) {
    return take_if(guests_, [now](const Guest& guest) { return now >= guest.until; });
}

std::vector<WaitingRoom::Guest> WaitingRoom::take_all() { return std::exchange(guests_, {}); }

}  // namespace cardionode

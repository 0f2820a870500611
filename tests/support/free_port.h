// A TCP port on 127.0.0.1 that nobody uses.
#pragma once

namespace cardionode::test {

/// Below the range the kernel takes outgoing connections from, and another one each time: tests run side by side.
/// Throws std::runtime_error when none is found.
int free_port();

/// Does anybody listen on 127.0.0.1:port?
bool listens(int port);

}  // namespace cardionode::test

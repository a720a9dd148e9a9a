// The header as C++ takes it: from an extern "C" block.

extern "C" {
#include "dyups.h"
}

int main()
{
    dyups_picked picked = dyups_picked();
    return dyups_abi() == DYUPS_ABI && dyups_find(nullptr, nullptr, 0, 0, nullptr, &picked) < 0 ? 0 : 1;
}

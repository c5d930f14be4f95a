import { copy } from '../../src/conform/program.js';
import { AKEY_ENT, ContextState, CXT_CTL, CXT_L1_ENT, CXT_L2_ENT, CXT_STS } from '../../src/spec/index.js';
import type { Guest } from '../../src/vm/index.js';
import { BAR0, BAR2, must } from './guests.js';

/** Memory that the kernel leaves alone, so that a shell may fill it through /dev/mem: without an IOMMU these are DMA addresses. */
const BASE = 0x1000_0000;
const L2 = BASE;
const L1 = BASE + 0x1000;
const CONTROL = BASE + 0x3000;
const STATUS = BASE + 0x3040;
const WRITE_INDEX = BASE + 0x3080;
const AKEYS = BASE + 0x4000;
const RING = BASE + 0x1_0000;
const IMAGE_BYTES = 0x2_0000;
const ENTRIES = 1024;
const COPIES = 1000;
const COPY_BYTES = 16 << 20;

/** For a guest that copies for some seconds without a driver: everything that the function reads, as one piece of memory. */
export const COPYING = { kernelArgs: ['memmap=64M$256M'], files: { '/image': image() } };

function image(): Buffer {
  const bytes = Buffer.alloc(IMAGE_BYTES);
  const put = (address: number, part: Uint8Array) => bytes.set(part, address - BASE);
  put(L2, CXT_L2_ENT.encode({ vl: 1, lv01_ptr: L1 }));
  put(L1 + 32, CXT_L1_ENT.encode({ vl: 1, ka: 1, cxt_ctl_ptr: CONTROL, akey_ptr: AKEYS, max_buffer: 11 }));
  const control = { ds_ring_ptr: RING, ds_ring_sz: ENTRIES, cxt_sts_ptr: STATUS, write_index_ptr: WRITE_INDEX };
  put(CONTROL, CXT_CTL.encode({ vl: 1, se: 1, csa: 1, ...control }));
  put(STATUS, CXT_STS.encode({ state: ContextState.RUN, read_index: 0 }));
  put(AKEYS, AKEY_ENT.encode({ vl: 1 }));
  bytes.writeBigUInt64LE(BigInt(COPIES), WRITE_INDEX - BASE);
  for (let i = 0; i < COPIES; i++) put(RING + 64 * i, copy(BASE + (1 << 20), BASE + (32 << 20), COPY_BYTES, { np: 1 }));
  return bytes;
}

/** Brings the function up and rings: 16 GB to copy. @returns how many copies are done already */
export async function startCopying(guest: Guest): Promise<number> {
  await must(
    guest,
    `${BAR0} ${BAR2} setpci -d ::1201 COMMAND=6 && dd if=/image of=/dev/mem bs=64k seek=$((${BASE} / 65536)) conv=notrunc 2>/dev/null &&
devmem $((bar0 + 0x10000)) 64 ${L2} && devmem $((bar0)) 64 3 && devmem $((bar2 + 0x1000)) 64 ${COPIES}`,
  );
  return Number(await must(guest, `devmem $((${STATUS + 8})) 64`));
}

import { SdxiError } from '../../errors.js';
import type { Host } from './host.js';

/** CAP_IPC_LOCK: no limit holds. Bit of CapEff in /proc/self/status. */
const IPC_LOCK = 14n;

export interface LockState {
  /** RLIMIT_MEMLOCK; Infinity without one. */
  readonly limitBytes: number;
  /** What the process has locked, mappings of VFIO included. */
  readonly lockedBytes: number;
  /** The limit does not hold for this process. */
  readonly exempt: boolean;
}

/**
 * RLIMIT_MEMLOCK: every page that is mapped for a device is locked, and counts, once for each mapping. The kernel says ENOMEM when the
 * limit is passed; asking before lets the error say what is missing.
 */
export class LockedMemory {
  private readonly host: Host;
  /** Whom no limit holds at the start is not asked again: the two files cost more than a small mapping. */
  private readonly free: boolean;

  constructor(host: Host) {
    this.host = host;
    const { exempt, limitBytes } = this.read();
    this.free = exempt || limitBytes === Number.POSITIVE_INFINITY;
  }

  read(): LockState {
    const status = this.host.proc('self/status');
    const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
    const limit = /^Max locked memory\s+(\d+)/m.exec(this.host.proc('self/limits'))?.[1];
    const locked = /^VmLck:\s*(\d+) kB$/m.exec(status)?.[1];
    return {
      limitBytes: limit === undefined ? Number.POSITIVE_INFINITY : Number(limit),
      lockedBytes: locked === undefined ? 0 : Number(locked) * 1024,
      exempt: capabilities !== undefined && ((BigInt(`0x${capabilities}`) >> IPC_LOCK) & 1n) === 1n,
    };
  }

  /** @throws SdxiError ERR_SDXI_RESOURCE when so much more cannot be locked */
  check(byteLength: number): void {
    if (this.free) return;
    const { limitBytes, lockedBytes } = this.read();
    if (lockedBytes + byteLength <= limitBytes) return;
    throw new SdxiError(
      'ERR_SDXI_RESOURCE',
      `the function cannot be given ${byteLength} bytes: ${lockedBytes} bytes are locked in memory, and the limit is ${limitBytes}`,
      {
        hint: 'raise it (ulimit -l; memlock in /etc/security/limits.conf; LimitMEMLOCK= of a systemd unit), or map less: vfio:…?arenaBytes=1048576',
        fields: { byteLength, lockedBytes, limitBytes },
      },
    );
  }
}

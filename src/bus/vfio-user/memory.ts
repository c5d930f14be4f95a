import { SdxiError } from '../../errors.js';
import { type Access, NO_PASID } from '../../memory/address-space.js';
import { MappingLedger } from '../../memory/ledger.js';
import { PAGE_BYTES, type Region } from '../../memory/region.js';
import { Errno } from '../../native/socket.js';
import type { Connection } from '../../vfio-user/connection.js';
import { Command, DMA_MAP_BYTES, DMA_UNMAP_BYTES, MapFlag } from '../../vfio-user/messages.js';
import type { MapRequest } from '../bus.js';
import { mapNumbers } from '../embedded/engine-memory.js';
import type { ServedDevice } from './device.js';
import { GRANTS_MAX } from './shared.js';

interface Range {
  readonly iova: number;
  readonly byteLength: number;
}

interface Held {
  /** Kept alive for as long as the server may reach it. */
  readonly region: Region;
  /** What the server was told: one range of whole pages with a file, or those of {@link pagesOf} without. */
  readonly ranges: readonly Range[];
  readonly byMessages: boolean;
}

/** Memory of this process that the server has been given. The socket must be held. */
export class ServedMemory {
  private readonly device: ServedDevice;
  private readonly uri: string;
  private readonly share: boolean;
  private readonly held = new MappingLedger<Held>();
  /** Users of each range that the server reaches by messages: two buffers may lie in one page. */
  private readonly users = new Map<number, number>();

  constructor(device: ServedDevice, { uri, shareMemory }: { uri: string; shareMemory: boolean }) {
    this.device = device;
    this.uri = uri;
    this.share = shareMemory;
  }

  /** @throws SdxiError ERR_SDXI_MAPPING, ERR_SDXI_UNSUPPORTED for a PASID */
  map(request: MapRequest): void {
    const { iova, byteLength, offset, access, pasid, regionAddress } = mapNumbers(request);
    if (pasid !== NO_PASID) {
      throw new SdxiError('ERR_SDXI_UNSUPPORTED', `memory cannot be mapped for PASID ${pasid} of ${this.uri}`, {
        hint: 'vfio-user has one address space for each function: leave the PASID out',
        fields: { uri: this.uri, pasid },
      });
    }
    const { region } = request;
    const { file } = region;
    const fileOffset = (file?.offset ?? 0) + offset;
    if (this.share && file !== undefined && iova % PAGE_BYTES === 0 && byteLength % PAGE_BYTES === 0 && fileOffset % PAGE_BYTES === 0) {
      const range = { iova, byteLength };
      this.tell(range, access, { fd: file.fd, offset: fileOffset });
      this.held.add(NO_PASID, iova, byteLength, { region, ranges: [range], byMessages: false });
      return;
    }
    this.mapByMessages({ iova, byteLength, address: regionAddress + offset, access: access as Access }, region);
  }

  private mapByMessages(grant: Range & { address: number; access: Access }, region: Region): void {
    const { shared } = this.device.link;
    const { iova, byteLength } = grant;
    // The server sees the pages, this end the bytes: an overlap of bytes it would not notice.
    for (const other of this.held.all()) {
      if (iova < other.iova + other.byteLength && other.iova < iova + byteLength) throw this.refused(grant, Errno.EEXIST);
    }
    if (!shared.grant(grant)) {
      throw new SdxiError('ERR_SDXI_MAPPING', `${this.uri} has ${GRANTS_MAX} mappings of memory without a file already`, {
        hint: 'register less memory at once, or take it from alloc(), which the server maps itself',
        fields: { uri: this.uri, iova, byteLength },
      });
    }
    const told: Range[] = [];
    try {
      for (const range of pagesOf(grant)) {
        const users = this.users.get(range.iova) ?? 0;
        if (users === 0) this.tell(range, ownPages(grant, range) ? grant.access : MapFlag.READ | MapFlag.WRITE);
        this.users.set(range.iova, users + 1);
        told.push(range);
      }
    } catch (error) {
      shared.revoke(iova);
      for (const range of told) this.leave(range);
      throw error;
    }
    this.held.add(NO_PASID, iova, byteLength, { region, ranges: told, byMessages: true });
  }

  private tell({ iova, byteLength }: Range, access: number, file?: { fd: number; offset: number }): void {
    const fill = ({ out }: Connection): void => {
      out.u32(0, DMA_MAP_BYTES);
      out.u32(4, (access & (MapFlag.READ | MapFlag.WRITE)) | (file ? MapFlag.MMAP : 0));
      out.u64(8, file?.offset ?? 0);
      out.u64(16, iova);
      out.u64(24, byteLength);
    };
    const { link, slowMs } = this.device;
    const errno = link.request(Command.DMA_MAP, DMA_MAP_BYTES, fill, slowMs, file ? [file.fd] : []);
    if (errno !== 0) throw this.refused({ iova, byteLength }, errno);
  }

  private refused({ iova, byteLength }: Range, errno: number): SdxiError {
    return new SdxiError(
      'ERR_SDXI_MAPPING',
      `cannot map ${byteLength} bytes at 0x${iova.toString(16)}: the server refused it with errno ${errno}`,
      {
        hint: CURES[errno] ?? "the server's log says why",
        fields: { uri: this.uri, iova, byteLength, errno },
      },
    );
  }

  /** @throws SdxiError ERR_SDXI_MAPPING when the range cuts a mapping in two, or the server does not let go */
  unmap(iova: number, byteLength: number, pasid: number): void {
    for (const { iova: start, note } of this.held.inside(pasid, iova, byteLength)) {
      for (const range of note.ranges) note.byMessages ? this.leave(range) : this.untell(range);
      // Only now: until the server has answered it may still be in the middle of an access (S-102).
      if (note.byMessages) this.device.link.shared.revoke(start);
      this.held.delete(pasid, start);
    }
  }

  /** One user of a range fewer; the last one takes it from the server. */
  private leave(range: Range): void {
    const users = this.users.get(range.iova) ?? 0;
    if (users > 1) return void this.users.set(range.iova, users - 1);
    this.users.delete(range.iova);
    this.untell(range);
  }

  private untell({ iova, byteLength }: Range): void {
    const fill = ({ out }: Connection): void => {
      out.u32(0, DMA_UNMAP_BYTES);
      out.u32(4, 0);
      out.u64(8, iova);
      out.u64(16, byteLength);
    };
    const { link, slowMs } = this.device;
    const errno = link.request(Command.DMA_UNMAP, DMA_UNMAP_BYTES, fill, slowMs);
    if (errno === 0) return;
    throw new SdxiError(
      'ERR_SDXI_MAPPING',
      `the server of ${this.uri} did not take back ${byteLength} bytes at 0x${iova.toString(16)}: errno ${errno}`,
      {
        hint: 'close this bus: memory that a server keeps is not safe to use again',
        fields: { uri: this.uri, iova, byteLength, errno },
      },
    );
  }

  /** Takes everything back. */
  unmapAll(): void {
    for (const { pasid, iova, byteLength } of [...this.held.all()]) this.unmap(iova, byteLength, pasid);
  }

  /** Nobody can reach it any more. */
  clear(): void {
    this.held.clear();
  }
}

/** Pages that nobody else has a byte of are granted as they are meant; of others this end looks after the rights. */
function ownPages(grant: Range, { iova, byteLength }: Range): boolean {
  return iova >= grant.iova && iova + byteLength <= grant.iova + grant.byteLength;
}

/** The pages of a range: those it has alone in one piece, and each of the others, which a neighbour may share, by itself. */
function pagesOf({ iova, byteLength }: Range): Range[] {
  const end = iova + byteLength;
  const first = Math.floor(iova / PAGE_BYTES) * PAGE_BYTES;
  const last = Math.floor((end - 1) / PAGE_BYTES) * PAGE_BYTES;
  const ranges: Range[] = [];
  const from = iova === first ? first : first + PAGE_BYTES;
  const to = end === last + PAGE_BYTES ? end : last;
  if (iova !== first) ranges.push({ iova: first, byteLength: PAGE_BYTES });
  if (to > from) ranges.push({ iova: from, byteLength: to - from });
  if (end !== last + PAGE_BYTES && (last !== first || iova === first)) ranges.push({ iova: last, byteLength: PAGE_BYTES });
  return ranges;
}

const CURES: Readonly<Record<number, string>> = {
  [Errno.EEXIST]: 'part of the range is mapped already: unmap it first, or choose another DMA address',
  [Errno.EINVAL]: 'the server takes whole pages of 4096 bytes, of files that cannot become shorter',
  [Errno.ENOMEM]: 'the server has no memory, or no room for another mapping (vm.max_map_count)',
  [Errno.EACCES]: 'the server could not map the file with these rights: was it opened for reading only?',
  28: 'the server has as many mappings as it takes: map larger pieces',
};

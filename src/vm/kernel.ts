import { gunzipSync } from 'node:zlib';
import { SdxiError } from '../errors.js';

/** Offsets in the header of a bzImage; Documentation/arch/x86/boot.rst of Linux. */
const SETUP_SECTS = 0x1f1;
const MAGIC = 0x202;
const VERSION = 0x206;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const SECTOR = 512;

const FORMATS = { zstd: '28b52ffd', xz: 'fd377a585a00', gzip: '1f8b' } as const;

/** How a kernel image is packed. */
export type KernelFormat = keyof typeof FORMATS;

/** The packed kernel in an image, without the four bytes of length behind it. */
export interface Payload {
  readonly format: KernelFormat;
  readonly bytes: Buffer;
}

/**
 * Finds the packed kernel in a bzImage by the image's own header.
 * @returns undefined for a format that nothing here unpacks (lz4, lzo, bzip2): such a kernel boots as it is, two seconds slower
 * @throws SdxiError ERR_SDXI_SYSTEM for what is no bzImage of boot protocol 2.08 or later
 */
export function payloadOf(image: Buffer): Payload | undefined {
  const valid = image.length > SECTOR * 2 && image.toString('latin1', MAGIC, MAGIC + 4) === 'HdrS' && image.readUInt16LE(VERSION) >= 0x208;
  const start = valid ? (image[SETUP_SECTS] + 1) * SECTOR + image.readUInt32LE(PAYLOAD_OFFSET) : 0;
  const end = valid ? start + image.readUInt32LE(PAYLOAD_LENGTH) : 0;
  if (!valid || end > image.length || end - start < 8) {
    throw new SdxiError('ERR_SDXI_SYSTEM', 'the fetched kernel is no bzImage', { hint: 'remove the cache folder and fetch it again' });
  }
  const head = image.toString('hex', start, start + 8);
  const found = Object.entries(FORMATS).find(([, magic]) => head.startsWith(magic));
  return found && { format: found[0] as KernelFormat, bytes: image.subarray(start, end - 4) };
}

/** gzip is the one format that Node 20 knows. */
export const gunzip = (bytes: Buffer): Buffer => gunzipSync(bytes);

/** QEMU starts an ELF image by its PVH note: no real mode, no decompression by an emulated processor. */
export function isElf(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.subarray(0, 4)).toString('latin1') === '\x7fELF';
}

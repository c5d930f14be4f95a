// The answers of an honest server with four vectors, for servers on threads of their own that give some of them wrongly.
import { Command, encodeVersion } from '../../../dist/vfio-user/messages.js';

/**
 * Writes the answer to the message at hand. @returns its bytes
 * @param {import('../../../dist/vfio-user/connection.js').Connection} connection
 */
export function answer(connection, { major = 0, pciClass = 0x120100 } = {}) {
  const { command, body, out, view } = connection;
  const request = Buffer.from(body);
  const index = body.length >= 12 ? view.getUint32(8, true) : 0;
  switch (command) {
    case Command.VERSION: {
      const version = encodeVersion(major, 0, { max_msg_fds: 8 });
      out.bytes(0, version);
      return version.length;
    }
    case Command.DEVICE_GET_INFO:
      [16, 3, 9, 5].forEach((value, i) => void out.u32(4 * i, value));
      return 16;
    case Command.DEVICE_GET_REGION_INFO:
      [32, 3, index, 0].forEach((value, i) => void out.u32(4 * i, value));
      out.u64(16, index === 0 ? 0x80000 : 0x8000);
      out.u64(24, 0);
      return 32;
    case Command.DEVICE_GET_IRQ_INFO:
      [16, 9, index, 4].forEach((value, i) => void out.u32(4 * i, value));
      return 16;
    case Command.REGION_READ: {
      const count = request.readUInt32LE(12);
      const data = Buffer.alloc(count);
      if (index === 7 && request.readUInt32LE(0) === 8) data.writeUInt32LE(pciClass << 8);
      out.bytes(0, Buffer.concat([request.subarray(0, 16), data]));
      return 16 + count;
    }
    case Command.REGION_WRITE:
      out.bytes(0, request.subarray(0, 16));
      return 16;
    default:
      return 0;
  }
}

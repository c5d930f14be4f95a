import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { type ErrorFields, SystemError } from '../../errors.js';

export const { EACCES, EBUSY, EEXIST, EFAULT, EINVAL, EIO, ENODEV, ENOENT, ENOMEM, ENOSPC, ENOTTY, ENXIO, EPERM } = constants.errno;

/** `ENODEV`, for a result of -19. */
export function errnoName(result: number): string {
  try {
    return getSystemErrorName(result);
  } catch {
    return `errno ${-result}`;
  }
}

/** A call that failed for a reason that nobody has a better word for. */
export function failed(call: string, result: number, hint: string, fields: ErrorFields = {}): SystemError {
  return new SystemError(`${call} (${errnoName(result)})`, -result, { hint, fields });
}

// A failed kernel step in the words of the API: code, reason, cause and cure. Pure.

import { type ErrorCode, type PreconditionViolation, TaplaneError } from '../errors.ts';
import { AF_INET6 } from '../sys/netlink/address.ts';
import { SysError } from '../sys/sys-error.ts';
import { TUN_DEVICE } from '../sys/tun.ts';
import { StepFailure } from './kernel.ts';
import { commandLine, type Step } from './step.ts';

interface Meaning {
  code: ErrorCode;
  reason: string;
  hint: string;
  precondition?: PreconditionViolation;
}

const limit: Meaning = {
  code: 'RESOURCE_EXHAUSTED',
  reason: 'KERNEL_LIMIT',
  hint: 'the kernel or the process is at a limit; see ulimit -n and memory',
};

const general: Record<string, Meaning> = {
  EEXIST: {
    code: 'ALREADY_EXISTS',
    reason: 'OBJECT_EXISTS',
    hint: 'somebody else has put the same object there; remove it or choose another',
  },
  ENODEV: { code: 'NOT_FOUND', reason: 'DEVICE_GONE', hint: 'the device went away meanwhile; try again' },
  ENXIO: { code: 'NOT_FOUND', reason: 'DEVICE_GONE', hint: 'the device went away meanwhile; try again' },
  ENOENT: { code: 'NOT_FOUND', reason: 'OBJECT_GONE', hint: 'the object went away meanwhile; try again' },
  EBUSY: { code: 'FAILED_PRECONDITION', reason: 'DEVICE_BUSY', hint: 'another program holds the device; let it go first' },
  EINVAL: {
    code: 'INVALID_ARGUMENT',
    reason: 'KERNEL_REFUSED',
    hint: 'the kernel does not take this value; its own words are in the message',
  },
  ENAMETOOLONG: { code: 'INVALID_ARGUMENT', reason: 'KERNEL_REFUSED', hint: 'the name is too long' },
  EINTR: { code: 'UNAVAILABLE', reason: 'TABLE_CHANGING', hint: 'somebody else changed the table during every read; try again' },
  EMFILE: limit,
  ENFILE: limit,
  ENOBUFS: limit,
  ENOMEM: limit,
  ENOSPC: limit,
  ENETUNREACH: {
    code: 'FAILED_PRECONDITION',
    reason: 'GATEWAY_UNREACHABLE',
    hint: 'no address or route of the interface reaches the gateway; add an address of its subnet or use onlink',
  },
  EHOSTUNREACH: {
    code: 'FAILED_PRECONDITION',
    reason: 'GATEWAY_UNREACHABLE',
    hint: 'add an address of the subnet of the gateway, or use onlink',
  },
  ENETDOWN: { code: 'FAILED_PRECONDITION', reason: 'INTERFACE_DOWN', hint: 'bring the interface up' },
  EADDRNOTAVAIL: { code: 'FAILED_PRECONDITION', reason: 'ADDRESS_NOT_AVAILABLE', hint: 'the address is not one of the node' },
  EROFS: {
    code: 'FAILED_PRECONDITION',
    reason: 'SYSCTL_READ_ONLY',
    hint: 'mount /proc/sys writable for the agent',
    precondition: {
      type: 'MOUNT',
      subject: '/proc/sys',
      description: 'is read-only: give the agent a writable one, or leave out the sysctls',
    },
  },
};

const privilege: Meaning = {
  code: 'FAILED_PRECONDITION',
  reason: 'CAPABILITY_MISSING',
  hint: 'the agent lacks a capability; run taplane doctor',
  precondition: {
    type: 'CAPABILITY',
    subject: 'CAP_NET_ADMIN',
    description: 'the agent needs it, effective, in the network namespace of the device',
  },
};

function noDevice(errno: string): Meaning {
  return {
    code: 'FAILED_PRECONDITION',
    reason: 'TUN_DEVICE_UNAVAILABLE',
    hint: `${TUN_DEVICE} cannot be opened; run taplane doctor`,
    precondition: {
      type: 'DEVICE',
      subject: TUN_DEVICE,
      description: `open answers ${errno}: load the module tun and give the agent the device`,
    },
  };
}

function meaning(error: SysError, step: Step | undefined): Meaning {
  if (error.call.startsWith(`open ${TUN_DEVICE}`) && ['ENOENT', 'ENODEV', 'ENXIO', 'EPERM', 'EACCES'].includes(error.code))
    return noDevice(error.code);
  if (step?.kind === 'create-link' && error.call === 'TUNSETIFF' && ['EBUSY', 'EEXIST', 'EINVAL'].includes(error.code)) {
    if (error.code !== 'EINVAL')
      return { code: 'ALREADY_EXISTS', reason: 'NAME_TAKEN', hint: 'another device has the name; choose another or adopt it' };
  }
  if (step?.kind === 'set-link' && step.controller !== undefined && ['ENODEV', 'EOPNOTSUPP'].includes(error.code)) {
    const description = error.code === 'ENODEV' ? 'does not exist in the namespace of the interface; create it first' : 'takes no ports';
    return {
      code: 'FAILED_PRECONDITION',
      reason: 'BRIDGE_MISSING',
      hint: `bridge ${step.controller} ${description}`,
      precondition: { type: 'BRIDGE', subject: step.controller, description },
    };
  }
  if (step?.kind === 'add-route' && error.code === 'EINVAL' && /source/i.test(error.detail)) {
    return { code: 'FAILED_PRECONDITION', reason: 'SOURCE_NOT_LOCAL', hint: 'the preferred source must be an address of the node' };
  }
  if (step?.kind === 'add-address' && step.address.family === AF_INET6) {
    if (error.code === 'EACCES') {
      const cure = "IPv6 is switched off there; set its sysctl ipv6/disable_ipv6 to 0, or that of 'default' before it is made";
      return {
        code: 'FAILED_PRECONDITION',
        reason: 'IPV6_DISABLED',
        hint: cure,
        precondition: { type: 'SYSCTL', subject: 'ipv6/disable_ipv6', description: cure },
      };
    }
    if (error.code === 'EINVAL')
      return { code: 'FAILED_PRECONDITION', reason: 'MTU_TOO_SMALL', hint: 'IPv6 needs an MTU of at least 1280 bytes; ask for one' };
  }
  if (error.call === 'setns' && error.code === 'EPERM') {
    return {
      ...privilege,
      precondition: { type: 'CAPABILITY', subject: 'CAP_SYS_ADMIN', description: 'interfaces in other network namespaces need it' },
    };
  }
  if (error.code === 'EPERM' || error.code === 'EACCES') return privilege;
  return general[error.code] ?? { code: 'INTERNAL', reason: 'KERNEL_ERROR', hint: 'unexpected; please report it with the message' };
}

/** The API's error for something that failed while doing `verb` (such as `create interface tap0`). TaplaneErrors pass as they are. */
export function explain(error: unknown, verb: string, metadata: Record<string, string> = {}): TaplaneError {
  if (error instanceof TaplaneError) return error;
  const step = error instanceof StepFailure ? error.step : undefined;
  const cause = error instanceof StepFailure ? error.cause : error;
  if (!(cause instanceof SysError))
    return new TaplaneError('INTERNAL', 'INTERNAL', `${verb}: ${cause instanceof Error ? cause.message : 'unexpected failure'}`, { cause });
  const { code, reason, hint, precondition } = meaning(cause, step);
  return new TaplaneError(code, reason, `${verb}: ${cause.message}; ${hint}`, {
    cause,
    ...(precondition === undefined ? {} : { preconditions: [precondition] }),
    metadata: { errno: cause.code, call: cause.call, ...(step === undefined ? {} : { step: commandLine(step) }), ...metadata },
    ...(code === 'RESOURCE_EXHAUSTED' || code === 'UNAVAILABLE' ? { retryAfterMs: 1000 } : {}),
  });
}

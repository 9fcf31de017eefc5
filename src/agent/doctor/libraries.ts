// Shared libraries that are used where they are there.

import { libpcapVersion } from '../../sys/pcap.ts';
import { type Check, pass, warn } from './check.ts';

/** What libpcap says of itself; undefined where it is missing. */
export function readLibraries(): { libpcap: string | undefined } {
  return { libpcap: libpcapVersion() };
}

export function judgeLibraries({ libpcap }: { libpcap: string | undefined }): Check[] {
  return [
    libpcap !== undefined
      ? pass('libpcap', libpcap)
      : warn(
          'libpcap',
          'libpcap is missing: streams, captures and mirrors with a filter are refused; all else works',
          'install it: apt-get install libpcap0.8, apk add libpcap, dnf install libpcap',
        ),
  ];
}

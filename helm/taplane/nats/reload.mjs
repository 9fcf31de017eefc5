// Runs beside nats-server, which reads certificates when it starts and then never again: has it read them anew when they have changed, as they do when
// they are renewed. node reload.mjs FOLDER PID-FILE [MILLISECONDS]

import { readFileSync } from 'node:fs';

const [folder, pidFile, everyMs = '10000'] = process.argv.slice(2);
const FILES = ['tls.crt', 'tls.key', 'ca.crt'];
/** What the server was told of last. Nothing at the start: nobody knows what came before. */
let told = '';

function look() {
  try {
    const found = FILES.map((name) => readFileSync(`${folder}/${name}`, 'utf8')).join('\0');
    if (found === told) return;
    const pid = Number(readFileSync(pidFile, 'utf8'));
    // The file outlives the server, and numbers of processes come again.
    if (readFileSync(`/proc/${pid}/comm`, 'utf8').trim() !== 'nats-server') return;
    process.kill(pid, 'SIGHUP');
    told = found;
    console.log(`nats-server ${pid} reads its certificates`);
  } catch (error) {
    // The server is not there yet, or files are being exchanged.
    if (error.code !== 'ENOENT' && error.code !== 'ESRCH') console.error(String(error));
  }
}

look();
setInterval(look, Number(everyMs));

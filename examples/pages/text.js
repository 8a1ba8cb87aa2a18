// A textarea bound to a Yjs document, and the document bound to a channel. Built by `npm run build`.
import * as Y from 'yjs'

const $ = (id) => document.getElementById(id)
const name = location.hash.slice(1) || 'draft'
const doc = new Y.Doc()
const text = doc.getText('text')
const area = $('text')
$('download').href = `/texts/${name}`

// — the channel —

const REMOTE = 'remote'
const centrifuge = new Centrifuge(`${location.origin.replace('http', 'ws')}/connection/websocket`)
const channel = centrifuge.newSubscription(`text:${name}`)
let unsent = []
let sending = false

// Away for longer than the channel remembers, the page gets all of it again: what it has already changes nothing.
channel.on('publication', ({ data }) => Y.applyUpdate(doc, bytes(data.update), REMOTE))
channel.on('subscribed', () => {
  area.disabled = false
  send()
})
channel.subscribe()

centrifuge.on('state', ({ newState }) => { $('state').textContent = newState })
centrifuge.connect()

doc.on('update', (update, origin) => {
  if (origin === REMOTE) return
  unsent.push(update)
  send()
})

// What cannot be sent goes when the connection is back. A change that arrives twice does no harm
async function send() {
  $('saved').textContent = unsent.length || sending ? 'Some changes are only here yet.' : 'All changes are with the others.'
  if (sending || !unsent.length || channel.state !== 'subscribed') return
  const changes = unsent
  unsent = []
  sending = true
  try {
    await channel.publish({ update: base64(Y.mergeUpdates(changes)) })
  } catch {
    unsent = [...changes, ...unsent]
    return
  } finally {
    sending = false
  }
  send()
}

const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''))
const bytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))

// — the textarea —

area.oninput = () => {
  const before = text.toString()
  const after = area.value
  const shorter = Math.min(before.length, after.length)
  let start = 0
  while (start < shorter && before[start] === after[start]) start++
  if (halves(before, start) || halves(after, start)) start--
  let end = 0
  while (end < shorter - start && before.at(-1 - end) === after.at(-1 - end)) end++
  if (halves(before, before.length - end) || halves(after, after.length - end)) end--
  doc.transact(() => {
    text.delete(start, before.length - start - end)
    text.insert(start, after.slice(start, after.length - end))
  })
}

// Whether a cut here would go through the middle of a character of two units, such as an emoji
const halves = (string, at) => /[\uD800-\uDBFF]/.test(string[at - 1] ?? '') && /[\uDC00-\uDFFF]/.test(string[at] ?? '')

text.observe(({ delta, transaction }) => {
  if (transaction.origin !== REMOTE) return
  const { selectionStart, selectionEnd } = area
  area.value = text.toString()
  area.setSelectionRange(moved(selectionStart, delta), moved(selectionEnd, delta))
})

// Where a place in the text is after others have changed it
function moved(place, delta) {
  let at = 0
  for (const { retain = 0, insert = '', delete: gone = 0 } of delta) {
    at += retain
    if (at < place) place += insert.length - Math.min(gone, place - at)
    at += insert.length
  }
  return place
}

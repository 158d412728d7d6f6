/* What we run in pages, as source. Each is one function; it runs in a world of its own
 * (same document, other variables), so a page's scripts cannot stand in its way. */
#ifndef PHOTON_AGENT_TOOLS_BROWSER_JS_H
#define PHOTON_AGENT_TOOLS_BROWSER_JS_H

/* clang-format off */

/* find(selector, text): the first element that matches the selector (if any) and holds the text (if any), the
 * innermost one; a selector that is none throws. seen(e): has it a box that one could click on? */
#define JS_FIND \
        "const find=(selector,text)=>{" \
        "const all=[...document.querySelectorAll(selector||'body *')];" \
        "if(!text)return all[0]||null;" \
        "const has=e=>(e.innerText||e.value||e.textContent||'').includes(text);" \
        "const hits=all.filter(e=>!/^(SCRIPT|STYLE|TEMPLATE)$/.test(e.tagName)&&has(e));" \
        "return hits.find(e=>!hits.some(o=>o!==e&&e.contains(o)))||null};" \
        "const seen=e=>{const r=e.getBoundingClientRect(),s=getComputedStyle(e);" \
        "return r.width>0&&r.height>0&&s.visibility!=='hidden'&&s.display!=='none'};"

/* until(check, ms): what check gives once that is no longer null, or null. */
#define JS_UNTIL \
        "const until=(check,ms)=>{const v=check();if(v!==null||ms<=0)return v;" \
        "return new Promise(done=>{const end=performance.now()+ms;let o,i;" \
        "const stop=v=>{o.disconnect();clearInterval(i);done(v)};" \
        "const look=()=>{let v;try{v=check()}catch(x){v=null}" \
        "if(v!==null)stop(v);else if(performance.now()>=end)stop(null)};" \
        "o=new MutationObserver(look);o.observe(document,{subtree:true,childList:true,attributes:true,characterData:true});" \
        "i=setInterval(look,40)})};"

/* (selector, text, state, ms) -> "ok", or what was there at the end: "absent", "hidden", "visible". */
static const char js_wait[] =
        "async function(selector,text,state,ms){" JS_FIND JS_UNTIL
        "const is=()=>{const e=find(selector,text);return e?seen(e)?'visible':'hidden':'absent'};"
        "const good={attached:['hidden','visible'],visible:['visible'],hidden:['hidden','absent'],absent:['absent']}[state];"
        "const v=await until(()=>good.includes(is())?'ok':null,ms);return v||is()}";

/* (selector, text, ms) -> {x, y} in the viewport, of an element that takes clicks there; or {why}. */
static const char js_locate[] =
        "async function(selector,text,ms){" JS_FIND JS_UNTIL
        "let why='absent';"
        "const at=()=>{const e=find(selector,text);if(!e){why='absent';return null}"
        "if(!seen(e)){why='hidden';return null}"
        "e.scrollIntoView({block:'center',inline:'center',behavior:'instant'});"
        "const r=[...e.getClientRects()].find(r=>r.width>0&&r.height>0)||e.getBoundingClientRect();"
        "const x=Math.min(Math.max(r.left+r.width/2,0),innerWidth-1),y=Math.min(Math.max(r.top+r.height/2,0),innerHeight-1);"
        "let top=document.elementFromPoint(x,y);"
        "while(top&&top.shadowRoot&&top.shadowRoot.elementFromPoint(x,y)&&top.shadowRoot.elementFromPoint(x,y)!==top)"
        "top=top.shadowRoot.elementFromPoint(x,y);"
        "const l=e.labels?[...e.labels]:[];"
        "if(!top||!(e.contains(top)||top.contains(e)||l.some(b=>b.contains(top))||e.getRootNode()!==document))"
        "{why='covered';return null}"
        "if(e.disabled){why='disabled';return null}"
        "return{x,y}};"
        "return await until(at,ms)||{why}}";

/* (selector, text, clear, ms) -> "ok" with the focus in it, or why not. */
static const char js_focus[] =
        "async function(selector,text,clear,ms){" JS_FIND JS_UNTIL
        "let why='absent';"
        "const v=await until(()=>{const e=find(selector,text);if(!e){why='absent';return null}"
        "if(!seen(e)){why='hidden';return null}"
        "if(e.disabled||e.readOnly){why='disabled';return null}"
        "if(!(e.isContentEditable||/^(INPUT|TEXTAREA)$/.test(e.tagName))){why='uneditable';return null}"
        "e.focus();if(clear){if(e.select)e.select();else getSelection().selectAllChildren(e)}"
        "else if(e.setSelectionRange&&e.value!==undefined){try{e.setSelectionRange(e.value.length,e.value.length)}catch(x){}}"
        "return'ok'},ms);return v||why}";

/* (selector, values, ms) -> {chosen}, or {why}. */
static const char js_select[] =
        "async function(selector,values,ms){" JS_FIND JS_UNTIL
        "let why='absent';"
        "const v=await until(()=>{const e=find(selector,null);if(!e){why='absent';return null}"
        "if(e.tagName!=='SELECT'){why='uneditable';return null}"
        "const o=[...e.options].filter(o=>values.includes(o.value)||values.includes(o.label));"
        "if(!o.length){why='no option of that value';return null}"
        "for(const x of e.options)x.selected=o.includes(x);"
        "e.dispatchEvent(new Event('input',{bubbles:true}));e.dispatchEvent(new Event('change',{bubbles:true}));"
        "return{chosen:o.map(o=>o.value)}},ms);return v||{why}}";

/* (selector, max, what: "text" or "html", ms) -> {text, cut}, or {why}. */
static const char js_read[] =
        "async function(selector,max,what,ms){" JS_FIND JS_UNTIL
        "const e=selector?await until(()=>find(selector,null),ms):what==='html'?document.documentElement:document.body||document.documentElement;"
        "if(!e)return selector?{why:'absent'}:{text:'',cut:false};"
        "const t=String(what==='html'?e.outerHTML:e.innerText===undefined?e.textContent:e.innerText);"
        "return{text:t.slice(0,max),cut:t.length>max}}";

/* (selector, ms) -> {x, y, width, height} within the whole page, or {why}. */
static const char js_box[] =
        "async function(selector,ms){" JS_FIND JS_UNTIL
        "let why='absent';"
        "const v=await until(()=>{const e=find(selector,null);if(!e){why='absent';return null}"
        "if(!seen(e)){why='hidden';return null}"
        "const r=e.getBoundingClientRect();"
        "return{x:r.x+scrollX,y:r.y+scrollY,width:r.width,height:r.height}},ms);return v||{why}}";

/* clang-format on */

#endif

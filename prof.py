import time, sys
t=time.process_time()
from pathlib import Path
from isoflop.posttraining.settings import SFTConfig
from isoflop.posttraining.sft import FineTuning, example_of
from isoflop.posttraining.trainer import Stage
from isoflop.training.run import Run
from isoflop.posttraining.chat import Chat
from isoflop.posttraining.formats import read_conversations
from isoflop.inference.load import load_model
def say(w):
    global t; n=time.process_time(); print(w, round(n-t,2), flush=True); t=n
say("import")
m,tok=load_model(Path("/tmp/fresh7/three/runs/stages")); say("load")
talks=[p.value for p in read_conversations([Path("/work/shared/data/posttraining/gpteacher/Codegen/codegen-instruct.json")])]; say("read")
chat=Chat(tok)
ex=[example_of(chat,c) for c in talks]; say("encode")
c=SFTConfig(model="/tmp/fresh7/three/runs/stages",data=("/work/shared/data/posttraining/gpteacher/Codegen/codegen-instruct.json",),compile="never")
task=FineTuning(c,Path("/tmp/S_real/x")); say("task")
s=Stage(c,task,Run(Path("/tmp/S_real/x"))); say("stage")
s.places; say("places")
